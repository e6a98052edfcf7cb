"""`simple-vit`: the recipe of "Better plain ViT baselines" (Beyer et al. 2022), for ImageNet and sets like it."""

simple_vit = dict(
    model="simplevit_small_patch16_224",
    epochs=90,
    batch_size=1024,
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.1,  # times the learning rate, it is the paper's 1e-4
    warmup=0.09,  # 10,000 of 112,600 steps on ImageNet
    clip=1.0,
    augment="crop+horizontal_flip+rand_augment",
    mix="mixup",
    mix_alpha=0.2,
    label_smoothing=0.0,
)

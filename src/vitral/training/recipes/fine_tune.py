"""`fine-tune`: start from a published checkpoint or a run, choose how to adapt it by validation images."""

fine_tune = dict(
    adapt="auto",
    layer_decay=0.75,
    warmup=0.1,
    optimizer="adamw",
    lr=5e-4,
    weight_decay=0.05,
    epochs=20,
    augment="photo",
)

"""`fast`: the fewest minutes to a good result, on tens of thousands of small images."""

fast = dict(
    model="resnet_nano_48",
    epochs=20,
    batch_size=128,
    optimizer="adamw",
    lr=3e-3,
    weight_decay=0.05,
    augment="horizontal_flip+shift",
    label_smoothing=0.1,
    ema=0.999,
)

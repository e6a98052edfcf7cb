"""`small`: from scratch on a few hundred to a few thousand images."""

small = dict(
    model="resnet_nano_128",
    img_size=64,
    crop_mode="squash",
    epochs=300,
    batch_size=64,
    optimizer="adamw",
    augment="photo",
    label_smoothing=0.1,
    ema=0.99,
)

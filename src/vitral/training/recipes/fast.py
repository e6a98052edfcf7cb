"""`fast`: the fewest minutes to a good result, on tens of thousands of small images."""

fast = dict(
    model="vit_nano_patch4_32",
    epochs=10,
    batch_size=128,
    optimizer="muon",
    lr=2e-3,
    augment="horizontal_flip+shift",
    label_smoothing=0.1,
)

"""What a run is asked to do: one frozen dataclass, the same on the command line and in `config.yaml`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vitral.base.config import Option, check
from vitral.base.errors import ConfigError
from vitral.base.lookup import check_name, names


@dataclass(frozen=True)
class Recipe:
    """How to train. Defaults are for `shapes`; `PRESETS` says what other data starts from."""

    data: Annotated[
        str,
        Option("What to learn: shapes, digits (options as in shapes:size=64,n=10000), or a folder of class folders."),
    ] = "shapes"
    model: Annotated[str, Option("A name from `vitral models`, or file.py:Name for your own nn.Module.")] = (
        "vit_nano_patch8_48"
    )
    init: Annotated[
        str | None,
        Option("A run or a published checkpoint to start from: its head by a linear probe, then all of it."),
    ] = None
    epochs: Annotated[
        float,
        Option("Passes over the training images; 0, with --init, for the linear probe alone.", low=0, high=100_000),
    ] = 2.2
    batch_size: Annotated[int, Option("Images a step.", low=1, high=65_536)] = 128
    optimizer: Annotated[
        Literal["muon", "adamw"],
        Option("muon: Muon for the blocks' matrices and AdamW for the rest; adamw: AdamW for all."),
    ] = "muon"
    lr: Annotated[float, Option("Peak learning rate of AdamW; Muon's is ten times as much.", low=0, high=10)] = 2e-3
    layer_decay: Annotated[
        float,
        Option(
            "The learning rate of a block, over that of the block above; below 1 to start from a trained model.",
            low=0.01,
            high=1,
        ),
    ] = 1.0
    weight_decay: Annotated[
        float, Option("Decay of weight matrices; never of biases, norms, positions and learned tokens.", low=0, high=10)
    ] = 0.2
    warmup: Annotated[
        float,
        Option(
            "Fraction of the steps in which the learning rate rises; then it falls along a cosine.", low=0, high=0.9
        ),
    ] = 0.05
    clip: Annotated[
        float, Option("Largest norm of the gradient; what is longer is scaled down.", low=0.001, high=1_000_000)
    ] = 1.0
    label_smoothing: Annotated[
        float, Option("Probability given to the other classes in the target.", low=0, high=0.9)
    ] = 0.0
    augment: Annotated[
        str, Option(f"How training images are changed; one of {', '.join(names('data.augmentation'))}.")
    ] = "colour"
    img_size: Annotated[
        int | None,
        Option(
            "Side in pixels to cut the images to; the default is the model's for folders and the set's otherwise.",
            low=1,
            high=4096,
        ),
    ] = None
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Option("auto: bfloat16 where this processor computes in it and the model is wide enough to gain."),
    ] = "auto"
    compile: Annotated[
        Literal["auto", "always", "never"], Option("auto: only for long runs, since compiling takes up to a minute.")
    ] = "auto"
    seed: Annotated[
        int, Option("Of the weights, the order of the images and their augmentation.", low=0, high=2**31 - 1)
    ] = 0
    on_bad_image: Annotated[
        Literal["fail", "skip"],
        Option("What to do about a file that cannot be read: stop, or leave it out and list it."),
    ] = "fail"

    def __post_init__(self) -> None:
        check(self)
        check_name(self.augment, names("data.augmentation"), "augmentation")
        if not self.epochs and not self.init:
            raise ConfigError("--epochs 0 trains nothing: it is for --init, which fits a linear probe first.")


PRESETS: dict[str, dict[str, Any]] = {
    "shapes": {},
    "cued": dict(epochs=10, augment="none"),
    "digits": dict(model="vit_nano_patch2_8", epochs=120, augment="affine", label_smoothing=0.1),
    "folder": dict(model="vit_micro_patch8_64", epochs=60, augment="photo", label_smoothing=0.1),
}


# A trained model moves little, and its first blocks least (see `optim.layer_fractions`). One of ours goes on as it was
# trained; a published one was trained by AdamW, and is fine-tuned as BEiT and MAE are (Bao et al. 2022, appendix H).
STARTED: dict[str, Any] = dict(layer_decay=0.75, warmup=0.1)
PUBLISHED: dict[str, Any] = STARTED | dict(optimizer="adamw", lr=5e-4, weight_decay=0.05, epochs=20)


def preset(data: str, init: str | None = None, published: bool = False) -> dict[str, Any]:
    """The settings that data of this name starts from; or a trained model on it, `published` or a run's."""
    own = {"data": data} | PRESETS.get(data.partition(":")[0], PRESETS["folder"])
    if init is None:
        return own
    return own | {"init": init, "model": Path(init).name} | (PUBLISHED if published else STARTED)

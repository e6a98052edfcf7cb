"""The settings of a training run: one frozen dataclass, the same on the command line and in `config.yaml`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vitral.base.config import Option, check
from vitral.base.errors import ConfigError
from vitral.base.lookup import check_name, find, names
from vitral.data import CHOICES, OnBadImage
from vitral.data.augment_names import parse_augment
from vitral.data.division import SHARE


@dataclass(frozen=True)
class Recipe:
    """How to train. Defaults are for `shapes`; `PRESETS` has those of other data."""

    data: Annotated[str, Option(f"Training data: {CHOICES}.")] = "shapes"
    model: Annotated[
        str, Option("Model to train: a name from `vitral models`, or file.py:Name for your own nn.Module.")
    ] = "vit_nano_patch8_48"
    init: Annotated[
        str | None,
        Option(
            "Run or checkpoint to fine-tune: a linear probe first, then all layers. For segmentation, the encoder gets "
            "a new decoder, unless the run has the same decoder and classes."
        ),
    ] = None
    adapt: Annotated[
        Literal["full", "lora", "probe", "auto"],
        Option(
            "With --init: full trains all layers; lora trains low-rank updates of the linear layers in the blocks, and "
            "the head; probe trains the head only, or the decoder for segmentation; auto tries all three and chooses "
            "by the validation images."
        ),
    ] = "full"
    lora_rank: Annotated[int, Option("Rank of the updates of --adapt lora.", low=1, high=4096)] = 8
    epochs: Annotated[
        float, Option("Passes over the training images; 0 with --init fits the linear probe only.", low=0, high=100_000)
    ] = 2.2
    minutes: Annotated[
        float | None,
        Option(
            "Time for the whole run, instead of --epochs: as many epochs as fit, by the measured speed of this "
            "machine.",
            low=0.01,
            high=1_000_000,
        ),
    ] = None
    batch_size: Annotated[int, Option("Images per step.", low=1, high=65_536)] = 128
    optimizer: Annotated[
        Literal["muon", "adamw"],
        Option("muon: Muon for the weight matrices in the blocks, AdamW for the rest; adamw: AdamW for everything."),
    ] = "muon"
    lr: Annotated[
        float,
        Option("Peak learning rate of AdamW; Muon's, and that of --adapt lora, is ten times that.", low=0, high=10),
    ] = 2e-3
    layer_decay: Annotated[
        float,
        Option(
            "Layer-wise decay: each block's learning rate as a fraction of the next block's; use below 1 with --init.",
            low=0.01,
            high=1,
        ),
    ] = 1.0
    weight_decay: Annotated[
        float,
        Option(
            "Weight decay of weight matrices; biases, norms, positions and learned tokens have none.", low=0, high=10
        ),
    ] = 0.2
    warmup: Annotated[
        float,
        Option(
            "Fraction of the steps during which the learning rate rises; then it falls along a cosine.", low=0, high=0.9
        ),
    ] = 0.05
    clip: Annotated[
        float,
        Option("Largest gradient norm; a larger gradient is scaled down to it.", low=0.001, high=1_000_000),
    ] = 1.0
    label_smoothing: Annotated[
        float, Option("Label smoothing: share of the target that is spread evenly over all classes.", low=0, high=0.9)
    ] = 0.0
    ema: Annotated[
        float,
        Option(
            "Decay per step, such as 0.99, of a moving average of the weights, which is evaluated and saved in place "
            "of the weights themselves; 0 for none.",
            low=0,
            high=0.99999,
        ),
    ] = 0.0
    accumulate: Annotated[
        int,
        Option(
            "Number of parts in which a step computes its batch: less memory for the same step. Batch normalisation "
            "and the Dice loss see one part at a time.",
            low=1,
            high=65_536,
        ),
    ] = 1
    patience: Annotated[
        int,
        Option(
            "Stop training after this many evaluations without improvement; 0 for never. The best model is kept in any "
            "case.",
            low=0,
            high=1_000_000,
        ),
    ] = 0
    sampling: Annotated[
        Literal["all", "balanced"],
        Option(
            "all: an epoch shows each training image once; balanced: it shows each class equally often, images of rare "
            "classes several times."
        ),
    ] = "all"
    class_weights: Annotated[
        Literal["none", "balanced"],
        Option("balanced: weigh the loss of each class by how rare its training images are, or its pixels in masks."),
    ] = "none"
    dice: Annotated[
        float, Option("Segmentation: weight of the Dice loss, which is added to the cross-entropy.", low=0, high=100)
    ] = 0.0
    decoder: Annotated[
        str,
        Option(
            "Segmentation: what turns the encoder's feature maps into masks: "
            f"{', '.join(names('nn.family.decoders'))}; auto: pyramid for Swin and ResNet, detail for a ViT."
        ),
    ] = "auto"
    augment: Annotated[
        str,
        Option(
            f"Augmentation of the training images: {', '.join(names('data.augmentation'))}; or several, joined by +. "
            "`vitral data show DATA --augment NAME` draws it."
        ),
    ] = "colour"
    mix: Annotated[
        str,
        Option(f"Mix training images in pairs, and their classes: none, {', '.join(names('data.mixing'))}."),
    ] = "none"
    mix_alpha: Annotated[
        float | None,
        Option(
            "With --mix: the share that an image keeps of itself is drawn from Beta(alpha, alpha); for alpha below 1 "
            "most shares are near 0 or 1. By default 0.2 for mixup and 1 for cutmix.",
            low=0.01,
            high=100,
        ),
    ] = None
    img_size: Annotated[
        int | None,
        Option(
            "Side in pixels to which a folder's images are resized; by default the model's.",
            low=1,
            high=4096,
        ),
    ] = None
    crop_mode: Annotated[
        Literal["auto", "center", "squash"],
        Option(
            "How a folder's images become square: center cuts off what sticks out; squash keeps all of the image and "
            "changes its aspect ratio; auto: as the model of --init, else center, and squash with masks."
        ),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Option(
            "auto: bfloat16 if a few timed steps show that it is faster; in runs of less than two minutes, if the "
            "device supports it and the model is wide enough."
        ),
    ] = "auto"
    compile: Annotated[
        Literal["auto", "always", "never"],
        Option("auto: compile if that gains more time than it takes, which is tried in runs of more than ten minutes."),
    ] = "auto"
    seed: Annotated[
        int, Option("Seed for the weights, the order of the images and their augmentation.", low=0, high=2**31 - 1)
    ] = 0
    val_split: Annotated[
        float,
        Option("Share of a folder's images for validation, unless folders or a table specify it.", low=0.001, high=0.9),
    ] = SHARE
    test_split: Annotated[
        float,
        Option(
            "Share of a folder's images for testing, unless folders or a table specify it; 0 for no test split.",
            low=0,
            high=0.9,
        ),
    ] = SHARE
    group_by: Annotated[
        str | None,
        Option(
            "Keep each group of images in one split. The groups are given by a regular expression whose first "
            "parentheses match the group in an image's path, such as 'patient(\\d+)', or by a column of the table of "
            "labels."
        ),
    ] = None
    splits: Annotated[
        str | None,
        Option("An earlier run, or its splits.csv: its images keep their split, and only new images are divided."),
    ] = None
    on_bad_image: OnBadImage = "fail"
    duplicates: Annotated[
        Literal["keep", "drop", "fail"],
        Option(
            "Copies among the images of a folder: keep reports them; drop uses each image once (in the test split "
            "rather than in training), or not at all if its copies have different labels; fail refuses them."
        ),
    ] = "keep"

    @property
    def balances_classes(self) -> bool:
        """Whether rare classes count more than their images, by their weight or by how often these are shown."""
        return "balanced" in (self.class_weights, self.sampling)

    def __post_init__(self) -> None:
        check(self)
        parse_augment(self.augment)
        check_name(self.mix, ["none", *names("data.mixing")], "way to mix")
        if self.mix == "none" and self.mix_alpha is not None:
            raise ConfigError(f"--mix-alpha {self.mix_alpha:g} changes how images are mixed: name the way with --mix.")
        if self.mix != "none" and self.batch_size < 2:
            raise ConfigError(f"--mix {self.mix} mixes the images of a batch: --batch-size must be at least 2.")
        if self.mix != "none" and (self.adapt == "probe" or not self.epochs):
            raise ConfigError(f"--mix {self.mix} mixes the images of training steps, and a linear probe takes none.")
        if self.val_split + self.test_split >= 1:
            raise ConfigError(
                f"--val-split {self.val_split:g} and --test-split {self.test_split:g} leave no images for training: "
                "together they must be less than 1."
            )
        check_name(self.decoder, ["auto", *names("nn.family.decoders")], "decoder")
        if self.adapt != "full" and not self.init:
            raise ConfigError(f"--adapt {self.adapt} adapts a trained model: name the run or checkpoint with --init.")
        if self.adapt in ("lora", "auto") and not self.epochs:
            raise ConfigError(
                f"--adapt {self.adapt} takes training steps, and --epochs 0 takes none: use --adapt probe."
            )
        if not self.epochs and not self.init:
            raise ConfigError("--epochs 0 trains nothing: use it with --init only, to fit a linear probe.")


PRESETS: dict[str, dict[str, Any]] = {
    "shapes": {},
    "cued": dict(epochs=10, augment="none"),
    "scenes": dict(model="vit_nano_patch8_128", epochs=5, batch_size=16, weight_decay=0.05),
    "digits": dict(model="vit_nano_patch2_8", epochs=120, augment="affine", label_smoothing=0.1),
    "masks": dict(model="vit_micro_patch8_128", epochs=60, batch_size=16, augment="photo", weight_decay=0.05),
    "folder": dict(model="vit_micro_patch8_64", epochs=60, augment="photo", label_smoothing=0.1),
}


# A trained model needs small updates, smallest in its first blocks (see `optim.layer_fractions`). A run of ours keeps
# the optimizer that it was trained by; a published checkpoint was trained by AdamW, and is fine-tuned as BEiT and MAE
# are (Bao et al. 2022, appendix H).
FROM_RUN: dict[str, Any] = dict(layer_decay=0.75, warmup=0.1)
FROM_PUBLISHED: dict[str, Any] = FROM_RUN | dict(optimizer="adamw", lr=5e-4, weight_decay=0.05, epochs=20)


def kind_of_folder(data: str) -> str:
    """The preset of a folder: "masks" for images with masks."""
    from vitral.data.mask_folder import is_mask_folder

    return "masks" if is_mask_folder(Path(data)) else "folder"


def preset(data: str, init: str | None = None, published: bool = False, recipe: str | None = None) -> dict[str, Any]:
    """The default settings for this data; with `init` those for fine-tuning a published checkpoint or a run.

    A named `recipe` takes precedence over both. Raises `UnknownName` for one that does not exist, `ConfigError` for
    one that adapts a trained model without `init`, or trains a new one with it.
    """
    settings = {"data": data} | PRESETS.get(data.partition(":")[0], PRESETS[kind_of_folder(data)])
    settings |= (FROM_PUBLISHED if published else FROM_RUN) if init is not None else {}
    if recipe is not None:
        settings |= find_recipe(recipe)
        if init is not None and "model" in find_recipe(recipe):
            # Its learning rate and epochs would soon undo what the model has learned.
            raise ConfigError(f"--recipe {recipe} trains a new model. To start from {init}: --recipe fine-tune.")
    if init is not None:
        settings |= {"init": init, "model": Path(init).name}
    elif "adapt" in settings:
        raise ConfigError(f"--recipe {recipe} adapts a trained model: name the run or checkpoint with --init.")
    return settings


def recipe_names() -> list[str]:
    """The named recipes."""
    return [name.replace("_", "-") for name in names("training.recipes")]


def find_recipe(name: str) -> dict[str, Any]:
    """The settings of a named recipe. Raises `UnknownName` with the nearest name."""
    check_name(name, recipe_names(), "recipe")
    settings: dict[str, Any] = find("training.recipes", name.replace("-", "_"), "recipe")
    return settings

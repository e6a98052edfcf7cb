"""The tests of station 8: `VisionTransformer`."""

from typing import Any

from torch import Tensor, nn

from vitral.lab.recorder import Recorder
from vitral.lab.replacements import copy_weights
from vitral.lab.station import Pair, RightPrediction, Station, law

Sizes = tuple[int, int, int, int, int, int, int, float]
NEW = (2, 1, 1, 2, 256, 1, 1, 0.25)  # a class token wide enough to measure its standard deviation
COPIED = ("preprocessing", "grid", "num_prefix_tokens", "config")  # attributes that Vitral expects of a trained model


def draw_sizes(recorder: Recorder, depth: int) -> Sizes:
    """Return small sizes that are all different, and an mlp_ratio for which the hidden width is not an integer."""
    patch, side = recorder.integer(2, 3), recorder.integer(2, 3)
    channels, classes, width = recorder.integer(1, 3), recorder.integer(4, 5), 2 * recorder.integer(3, 4)
    return patch * side, patch, channels, classes, width, depth, 2, 1.6


def draw_images(recorder: Recorder, sizes: Sizes, count: int) -> Tensor:
    return recorder.normal(count, sizes[2], sizes[0], sizes[0])


def build_model(recorder: Recorder, depth: int = 2, count: int = 2) -> tuple[Any, Tensor, Sizes]:
    """Return a model of this depth, images for it, and its sizes."""
    sizes = draw_sizes(recorder, depth)
    images = draw_images(recorder, sizes, count)
    return recorder.build("VisionTransformer", *sizes), images, sizes


def zero_block(model: nn.Module, place: int) -> None:
    """Set the last layers of a block to zero, so that it adds nothing."""
    for last in ("attn.proj", "mlp.fc2"):
        for parameter in model.get_submodule(f"blocks.{place}.{last}").parameters():
            nn.init.zeros_(parameter)


def record_initial_tokens(recorder: Recorder) -> None:
    """Record the standard deviation of the initial class token and positions."""
    recorder.build("VisionTransformer", *NEW)
    named = dict(recorder.answer.VisionTransformer(*NEW).named_parameters())
    for name in ("cls_token", "pos_embed"):
        deviation = round(float(named[name].detach().std()), 2) if name in named else None
        recorder.record(f"The standard deviation of {name} in a new VisionTransformer", deviation)


def observe(recorder: Recorder) -> None:
    for depth in (2, 3):
        model, images, sizes = build_model(recorder, depth, 3)
        recorder.call(model, images)
        recorder.call(model, draw_images(recorder, sizes, 1))
    record_initial_tokens(recorder)


@law()
def each_by_itself(recorder: Recorder) -> Pair:
    """The logits of each image are the same as if it were alone in the batch."""
    model, images, _ = build_model(recorder, count=3)
    return recorder.call(model, images)[1:], recorder.call(model, images[1:])


@law()
def head_comes_last(recorder: Recorder) -> Pair:
    """With a head whose weights are zero, the logits are its bias, for every image."""
    model, images, _ = build_model(recorder, depth=1)
    nn.init.zeros_(model.head.weight)
    return recorder.call(model, images), model.head.bias.expand(2, -1)


@law()
def class_token_alone(recorder: Recorder) -> Pair:
    """If no block adds anything, the head takes the class token with its position, normalised, and no patch."""
    model, images, _ = build_model(recorder)
    for place in range(2):
        zero_block(model, place)
    logits = model.head(model.norm(model.cls_token[:, 0] + model.pos_embed[:, 0]))
    return recorder.call(model, images), logits.expand(2, -1)


@law()
def order_is_in_positions(recorder: Recorder) -> Pair:
    """If all positions are zero, swapping patches does not change the logits: only positions encode the order."""
    model, images, sizes = build_model(recorder)
    nn.init.zeros_(model.pos_embed)
    return recorder.call(model, images.roll(sizes[1], dims=3)), recorder.call(model, images)


@law()
def one_block_less(recorder: Recorder) -> Pair:
    """If the second of two blocks adds nothing, the logits are those of a model with the first block alone."""
    model, images, sizes = build_model(recorder)
    zero_block(model, 1)
    shallow = recorder.build("VisionTransformer", *sizes[:5], 1, *sizes[6:])
    return recorder.call(model, images), recorder.call(shallow, images)


def insert(model: Any, answer: Any) -> nn.Module:
    sides = (model.config[name][0] for name in ("img_size", "patch_size"))
    others = ("in_channels", "num_classes", "embed_dim", "depth", "num_heads", "mlp_ratio")
    own = answer.VisionTransformer(*sides, *(model.config[name] for name in others))
    for name in COPIED:
        if hasattr(model, name):
            setattr(own, name, getattr(model, name))
    return copy_weights(own, model)


vit = Station(
    number=8,
    title="The whole Vision Transformer",
    minutes=30,
    difficulty=3,
    prediction=RightPrediction(
        "a",
        "In every block the class token attends to the patches. The MLP works on each token alone, and nothing is "
        "added at the end.",
    ),
    hints=(
        "Every part is in a file of yours: PatchEmbedding, with_tokens, Attention, MLP, Block, LayerNorm. Build them "
        "in __init__, and call them in forward in the order of the figure.",
        "pos_embed has one row for each patch and one for the class token: rows x columns + 1, from the grid of your "
        "patch embedding. Build each of the `depth` blocks separately, in an nn.ModuleList.",
        "forward follows the figure from left to right: with_tokens takes three arguments, each block takes the output "
        "of the one before it, the norm takes the last, and of (b, n + 1, d) the head takes token 0 of every image.",
    ),
    observe=observe,
    insert=insert,
)

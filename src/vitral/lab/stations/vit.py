"""Station 8: `VisionTransformer`."""

from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.graft import with_weights
from vitral.lab.inspection import Inspection
from vitral.lab.station import Law, Pair, Prediction, Station

Sizes = tuple[int, int, int, int, int, int, int, float]
NEW = (2, 1, 1, 2, 256, 1, 1, 0.25)  # of a model whose class token alone has enough numbers to see how large they are
HANDED_ON = ("preprocessing", "grid", "num_prefix_tokens", "config")  # what others ask a trained model for


def drawn(inspection: Inspection, depth: int) -> Sizes:
    """Small sizes of which no two can be mistaken for each other, and a hidden width that is not whole."""
    patch, side = inspection.integer(2, 3), inspection.integer(2, 3)
    channels, classes, width = inspection.integer(1, 3), inspection.integer(4, 5), 2 * inspection.integer(3, 4)
    return patch * side, patch, channels, classes, width, depth, 2, 1.6


def pictures(inspection: Inspection, sizes: Sizes, count: int) -> Tensor:
    return inspection.normal(count, sizes[2], sizes[0], sizes[0])


def silence(model: nn.Module, place: int) -> None:
    """Let a block add nothing."""
    with torch.no_grad():
        for last in ("attn.proj", "mlp.fc2"):
            for parameter in model.get_submodule(f"blocks.{place}.{last}").parameters():
                parameter.zero_()


def note_new(inspection: Inspection) -> None:
    """See how large the tokens are that a model begins with."""
    inspection.build("VisionTransformer", *NEW)
    named = dict(inspection.answer.VisionTransformer(*NEW).named_parameters())
    for name in ("cls_token", "pos_embed"):
        deviation = round(float(named[name].detach().std()), 2) if name in named else None
        inspection.note(f"the deviation of {name} in a new VisionTransformer", deviation)


def observe(inspection: Inspection) -> None:
    for depth in (2, 3):
        sizes = drawn(inspection, depth)
        model = inspection.build("VisionTransformer", *sizes)
        inspection.ask(model, pictures(inspection, sizes, 3))
        inspection.ask(model, pictures(inspection, sizes, 1))
    note_new(inspection)


def each_by_itself(inspection: Inspection) -> Pair:
    sizes = drawn(inspection, 2)
    images = pictures(inspection, sizes, 3)
    model = inspection.build("VisionTransformer", *sizes)
    return inspection.ask(model, images, flows=False)[1:], inspection.ask(model, images[1:], flows=False)


def head_has_the_last_word(inspection: Inspection) -> Pair:
    sizes = drawn(inspection, 1)
    model: Any = inspection.build("VisionTransformer", *sizes)
    with torch.no_grad():
        model.head.weight.zero_()
    return inspection.ask(model, pictures(inspection, sizes, 2), flows=False), model.head.bias.expand(2, -1)


def class_token_alone(inspection: Inspection) -> Pair:
    sizes = drawn(inspection, 2)
    model: Any = inspection.build("VisionTransformer", *sizes)
    for place in range(2):
        silence(model, place)
    read = model.head(model.norm(model.cls_token[:, 0] + model.pos_embed[:, 0]))
    return inspection.ask(model, pictures(inspection, sizes, 2), flows=False), read.expand(2, -1)


def order_is_in_positions(inspection: Inspection) -> Pair:
    sizes = drawn(inspection, 2)
    images = pictures(inspection, sizes, 2)
    model: Any = inspection.build("VisionTransformer", *sizes)
    with torch.no_grad():
        model.pos_embed.zero_()
    moved = images.roll(sizes[1], dims=3)
    return inspection.ask(model, moved, flows=False), inspection.ask(model, images, flows=False)


def one_block_less(inspection: Inspection) -> Pair:
    deep = drawn(inspection, 2)
    images = pictures(inspection, deep, 2)
    model = inspection.build("VisionTransformer", *deep)
    silence(model, 1)
    shallow = inspection.build("VisionTransformer", *deep[:5], 1, *deep[6:])
    return inspection.ask(model, images, flows=False), inspection.ask(shallow, images, flows=False)


def graft(model: Any, answer: Any) -> nn.Module:
    sizes = model.config
    own = answer.VisionTransformer(
        sizes["img_size"][0],
        sizes["patch_size"][0],
        sizes["in_channels"],
        sizes["num_classes"],
        sizes["embed_dim"],
        sizes["depth"],
        sizes["num_heads"],
        sizes["mlp_ratio"],
    )
    for name in HANDED_ON:
        if hasattr(model, name):
            setattr(own, name, getattr(model, name))
    return with_weights(own, model)


vit = Station(
    name="vit",
    number=8,
    title="The whole Vision Transformer",
    minutes=30,
    difficulty=3,
    prediction=Prediction(
        "a",
        "In every block the class token takes from the patches by attention. The MLP works on each token alone, and "
        "nothing is added at the end.",
    ),
    hints=(
        "Every part is in a file of yours: PatchEmbedding, with_tokens, Attention, MLP, Block, LayerNorm. Make them in "
        "__init__, and call them in forward in the order of the drawing.",
        "There is one row of pos_embed for each patch and one for the class token: rows x columns + 1, from the grid "
        "of your patch embedding. Each of the `depth` blocks must be made anew, in an nn.ModuleList.",
        "forward reads the figure from left to right: with_tokens takes three things, each block takes what the one "
        "before it gave, the norm takes the last, and of (b, n + 1, d) the head takes token 0 of every image.",
    ),
    observe=observe,
    laws=(
        Law("Each image of a batch gets its logits as if it were alone.", each_by_itself),
        Law("A head whose weights are zero gives its bias as logits, whatever the image.", head_has_the_last_word),
        Law(
            "If no block adds anything, the head reads the class token with its position, normed, and no patch.",
            class_token_alone,
        ),
        Law(
            "If all positions are zero, patches may change places and the logits stay: nothing else knows the order.",
            order_is_in_positions,
        ),
        Law(
            "If the second of two blocks adds nothing, the logits are those of a model that has the first alone.",
            one_block_less,
        ),
    ),
    graft=graft,
)

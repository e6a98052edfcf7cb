"""A small model's own weights in its page, so that the page can run it and show what it answers when parts are missing.

The page has one forward pass (`page/forward.js`), of the plain ViT and its nearest variants. Weights are rounded to
half precision (IEEE 754 binary16: 11 significant bits); what that changes in the answers is measured and stated.

Axes:  y x pixels   k classes   n tokens   d width
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.base.answer import answer_of
from vitral.base.errors import UsageError
from vitral.base.modes import evaluating
from vitral.data.preprocess import LUMINANCE, normalise
from vitral.explain.maps import class_name
from vitral.explorer.content import Content
from vitral.nn.attention import Attention, attend
from vitral.nn.block import Block, LayerNorm
from vitral.nn.cost import cost
from vitral.nn.family.block import LayerScale, ScaledBlock
from vitral.nn.family.mixer import QKNormAttention
from vitral.nn.family.mlp import TanhMLP
from vitral.nn.family.pool import MeanPool
from vitral.nn.family.position import NoPosition, PatchPosition, SinCosPosition, SinCosStart
from vitral.nn.head import CLSPool
from vitral.nn.mlp import MLP
from vitral.nn.patch import PatchEmbedding
from vitral.nn.position import LearnedPosition
from vitral.nn.vit import VisionTransformer
from vitral.store.classifier import Classifier
from vitral.store.numbers_head import NumbersHead, without_numbers_head

MOST_BYTES = 2_000_000  # of the rounded weights: two for each
MOST_WORK = 400_000_000  # multiply-adds of one forward pass: about half a second in a page
# What `page/forward.js` computes. Any other module in a model would be left out without a word.
KNOWN: tuple[type[nn.Module], ...] = (
    *(VisionTransformer, PatchEmbedding, Block, ScaledBlock, LayerScale, Attention, QKNormAttention, MLP, TanhMLP),
    *(LayerNorm, CLSPool, MeanPool, SinCosPosition, NumbersHead, nn.LayerNorm, nn.Linear, nn.Conv2d, nn.Identity),
    nn.ModuleList,
)
TABLES = (LearnedPosition, SinCosStart, PatchPosition, SinCosPosition, NoPosition)


def why_no_network(model: nn.Module) -> str:
    """Why a page cannot run this model itself, in a sentence; empty if it can."""
    name = type(model).__name__
    if type(model) is not VisionTransformer:
        other = " of another library" if not type(model).__module__.startswith("vitral.") else ""
        return f"The page can run Vitral's plain ViTs only, and this model is a {name}{other}."
    if unknown := next((type(part).__name__ for part in model.modules() if type(part) not in KNOWN), None):
        return f"The page's forward pass has no {unknown}, which is a part of this model."
    norms = [part for part in model.modules() if isinstance(part, nn.LayerNorm)]
    if any(norm.weight is None or norm.bias is None for norm in norms):
        return "The page's forward pass has no layer norm without weight and bias."
    if type(model.position) not in TABLES:
        return f"The page's forward pass has no {type(model.position).__name__}, which adds this model's positions."
    if any(block.attn.attend is not attend for block in blocks_of(model)):
        return "This model attends within windows, which the page's forward pass does not."
    if not model.config["num_classes"]:
        return "This model has no head, so it gives no answer that could change."
    if (size := 2 * sum(weight.numel() for weight in weights_of(model).values())) > MOST_BYTES:
        return (
            f"The model's weights take {size / 1e6:.1f} MB in half precision; a page has room for at most "
            f"{MOST_BYTES / 1e6:g} MB."
        )
    if (work := cost(cast(VisionTransformer, without_numbers_head(model))).macs) > MOST_WORK:
        return (
            f"One forward pass takes {work / 1e6:.0f} million multiply-adds; a page runs at most {MOST_WORK / 1e6:.0f} "
            "million at each change."
        )
    if any(not torch.isfinite(weight.half()).all() for weight in weights_of(model).values()):
        return "Some of the model's weights are too large for half precision."
    return ""


def blocks_of(model: VisionTransformer) -> Iterator[Any]:
    """The blocks, whose parts `nn.Module` does not type."""
    return iter(cast(Any, model.blocks))


def weights_of(model: VisionTransformer) -> dict[str, Tensor]:
    """Every number that the forward pass needs, by its name in the state; `pos_embed` has one row for every token."""
    found = {name: weight.detach() for name, weight in model.state_dict().items() if weight.is_floating_point()}
    table = model.position.fixed if isinstance(model.position, SinCosPosition) else model.pos_embed
    if table is not None:
        rows = model.num_prefix_tokens + model.grid[0] * model.grid[1]
        found["pos_embed"] = F.pad(table.detach(), (0, 0, rows - table.shape[1], 0))
    return found


def rounded(model: VisionTransformer) -> VisionTransformer:
    """A copy of the model whose parameters and buffers are rounded to half precision, in float32."""
    copied = deepcopy(without_numbers_head(model))
    with torch.no_grad():
        for values in (*copied.parameters(), *copied.buffers()):
            values.copy_(values.half().to(values.dtype))
    found: VisionTransformer = copied.float().cpu()
    return found


class Network:
    """A model as its page runs it. Raises `UsageError` for a model that a page cannot run, with the reason.

    `drift` is the largest difference of an output between the rounded and the full weights, over the images that
    `image` was called with; `changed` counts the images whose first answer is another one.
    """

    def __init__(self, model: Classifier):
        if why := why_no_network(model):
            raise UsageError(why)
        self.model = model
        self.rounded = rounded(cast(VisionTransformer, model))
        self.drift, self.changed = 0.0, 0

    @torch.no_grad()
    def outputs(self, pixels: UInt8[np.ndarray, "y x 3"]) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
        """What the model answers with its full and with its rounded weights."""
        images = normalise(torch.from_numpy(pixels)[None], self.model.preprocessing)
        device = next(self.model.parameters()).device
        with evaluating(self.model):
            return self.model(images.to(device))[0].float().cpu(), self.rounded.eval()(images)[0]

    def image(self, pixels: UInt8[np.ndarray, "y x 3"]) -> tuple[Content, list[float]]:
        """One image of the page as the network takes it, and what the rounded weights answer, for the page's check.

        Raises `UsageError` if that is not finite.
        """
        full, ours = self.outputs(pixels)
        if not torch.isfinite(ours).all():
            raise UsageError("With weights in half precision, the model's outputs are not finite.")
        self.drift = max(self.drift, float((full - ours).abs().max()))
        self.changed += int(full.argmax() != ours.argmax())
        return Content.of(pixels.tobytes()), [float(value) for value in ours.double()]

    @property
    def task(self) -> str:
        return answer_of(self.model).task

    @property
    def num_weights(self) -> int:
        return sum(weight.numel() for weight in weights_of(self.rounded).values())

    @property
    def weights(self) -> Content:
        """Little-endian half-precision numbers, tensor after tensor."""
        return Content.of(b"".join(w.half().numpy().astype("<f2").tobytes() for w in weights_of(self.rounded).values()))

    def to_json(self, weights: dict[str, Any]) -> dict[str, Any]:
        """The header's part; `weights` says where they are."""
        model, config, block = self.rounded, self.rounded.config, next(blocks_of(self.rounded))
        answer = answer_of(self.model)
        channels = config["in_channels"]
        return weights | {
            "tensors": [[name, list(weight.shape)] for name, weight in weights_of(model).items()],
            "grid": list(model.grid),
            "patch": list(config["patch_size"]),
            "channels": channels,
            "luminance": list(LUMINANCE) if channels == 1 else None,
            "mean": list(self.model.preprocessing.mean),
            "std": list(self.model.preprocessing.std),
            "width": config["embed_dim"],
            "heads": config["num_heads"],
            "depth": config["depth"],
            "prefix": model.num_prefix_tokens,
            "tokens": ["cls_token"] * (model.cls_token is not None) + model.more_tokens,
            "eps": getattr(block.norm1, "eps", 0.0),
            "tanh": isinstance(block.mlp, TanhMLP),
            "pool": "mean" if isinstance(model.pool, MeanPool) else "first",
            "positions": model.pos_embed is not None or isinstance(model.position, SinCosPosition),
            "task": self.task,
            "temperature": getattr(answer, "temperature", None),
            "classes": [class_name(self.model, index) for index in range(config["num_classes"])],
            "drift": self.drift,
            "changed": self.changed,
        }

"""ViTs in the styles in which people write them, drawn from a grammar, each of which knows the truth about itself.

`WrittenViT(style)` keeps the weights of every layer as they multiplied the values in `truth`; `places` is the patch of
each token along rows, -1 for tokens that are none.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

GRID, PATCH, WIDTH, HEADS, DEPTH = (4, 4), 4, 16, 2, 2
SIZE = (GRID[0] * PATCH, GRID[1] * PATCH)

SOFTMAX = {
    "method": lambda scores: scores.softmax(-1),
    "keywords": lambda scores: F.softmax(input=scores, dim=-1),
    "exp and sum": lambda scores: scores.exp() / scores.exp().sum(-1, keepdim=True),
    "exp of logarithm": lambda scores: F.log_softmax(scores, dim=-1).exp(),
    "logsumexp": lambda scores: torch.exp(scores - torch.logsumexp(scores, dim=-1, keepdim=True)),
}
PRODUCT = {
    "@": lambda a, v: a @ v,
    "keywords": lambda a, v: torch.matmul(input=a, other=v),
    "einsum": lambda a, v: torch.einsum("...nm,...me->...ne", a, v),
    "einsum of a list": lambda a, v: torch.einsum("...nm,...me->...ne", [a, v]),
    "values first": lambda a, v: torch.einsum("...me,...nm->...ne", v, a),
    "transposed": lambda a, v: (v.mT @ a.mT).mT,
    "sum": lambda a, v: (a[..., None] * v[..., None, :, :]).sum(-2),
    "bmm": lambda a, v: torch.bmm(a.flatten(0, -3), v.flatten(0, -3)).unflatten(0, a.shape[:-2]),
}
BETWEEN = {
    "nothing": lambda a: a,
    "dropout": lambda a: F.dropout(input=a, p=0.1, training=False),
    "scaled": lambda a: a / 0.9,
    "copied": lambda a: a.to(torch.float64).to(a.dtype).contiguous(),
    "heads mixed": lambda a: 0.7 * a + 0.3 * a.flip(-3),
}
HEADS_AS = ("joint", "looped", "folded", "folded, heads first", "heads first", "joint, in chunks of queries")
PREFIX = ("none", "first", "last", "registers behind", "first and registers")
KEYS = ("all", "pooled", "windows")
AXES = {
    "softmax": sorted(SOFTMAX),
    "product": sorted(PRODUCT),
    "between": sorted(BETWEEN),
    "heads": HEADS_AS,
    "prefix": PREFIX,
    "keys": KEYS,
    "columns": (False, True),
    "unfolds": (False, True),
    "passes": ("tensor", "list", "tuple"),
    "separate": (False, True),
}


@dataclass(frozen=True)
class Style:
    softmax: str = "method"
    product: str = "@"
    between: str = "nothing"
    heads: str = "joint"
    prefix: str = "first"
    keys: str = "all"
    columns: bool = False
    unfolds: bool = False
    passes: str = "tensor"
    separate: bool = False


def is_possible(style: Style) -> bool:
    """Whether a style is one that people write: windows are cut from a map of patches along rows."""
    return style.keys != "windows" or (style.prefix == "none" and not style.columns)


class WrittenAttention(nn.Module):
    def __init__(self, style: Style, prefix: int):
        super().__init__()
        self.style, self.prefix = style, prefix
        if style.separate:
            self.to_q, self.to_k, self.to_v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        else:
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.truth: Tensor | None = None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: bool = True) -> tuple[Tensor, Tensor]:
        scores = torch.matmul(q, k.mT) * (WIDTH // HEADS) ** -0.5
        mixes = self.style.between == "heads mixed" and scores.ndim < 4  # heads are apart: there is nothing to mix
        weights = SOFTMAX[self.style.softmax](scores)
        weights = weights if mixes else BETWEEN[self.style.between](weights)
        return PRODUCT[self.style.product](weights, v), weights

    def forward(self, x: Tensor) -> Tensor:
        style, windows = self.style, self.style.keys == "windows"
        if windows:  # two by two, as an axis of units
            x = rearrange(x, "b (y p x q) d -> b (y x) (p q) d", y=2, x=2, p=GRID[0] // 2)
        parts = [self.to_q(x), self.to_k(x), self.to_v(x)] if style.separate else self.qkv(x).chunk(3, dim=-1)
        q, k, v = (rearrange(part, "b ... n (h e) -> b h ... n e", h=HEADS) for part in parts)
        if style.keys == "pooled":  # the keys of two tokens each, as in a PVT
            k, v = (F.avg_pool1d(z.flatten(0, 1).mT, 2, ceil_mode=True).mT.unflatten(0, z.shape[:2]) for z in (k, v))
        match style.heads:
            case "looped":
                each = [self.attend(q[:, i], k[:, i], v[:, i]) for i in range(HEADS)]
                out, weights = torch.stack([one for one, _ in each], 1), torch.stack([own for _, own in each], 1)
            case "folded":
                out, weights = self.attend(*(z.flatten(0, 1) for z in (q, k, v)))
                out, weights = out.unflatten(0, (-1, HEADS)), weights.unflatten(0, (-1, HEADS))
            case "folded, heads first":
                out, weights = self.attend(*(z.transpose(0, 1).flatten(0, 1) for z in (q, k, v)))
                out, weights = (z.unflatten(0, (HEADS, -1)).transpose(0, 1) for z in (out, weights))
            case "heads first":
                out, weights = self.attend(*(z.transpose(0, 1) for z in (q, k, v)))
                out, weights = out.transpose(0, 1), weights.transpose(0, 1)
            case "joint, in chunks of queries":
                each = [self.attend(part, k, v) for part in q.split(5, dim=-2)]
                out, weights = torch.cat([one for one, _ in each], -2), torch.cat([own for _, own in each], -2)
            case _:
                out, weights = self.attend(q, k, v)
        self.truth = weights.detach().clone()
        out = rearrange(out, "b h ... n e -> b ... n (h e)")
        if windows:
            out = rearrange(out, "b (y x) (p q) d -> b (y p x q) d", y=2, x=2, p=GRID[0] // 2)
        return self.proj(out)


class WrittenBlock(nn.Module):
    def __init__(self, style: Style, prefix: int):
        super().__init__()
        self.passes = style.passes
        self.norm1, self.attn = nn.LayerNorm(WIDTH), WrittenAttention(style, prefix)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 24), nn.GELU(), nn.Linear(24, WIDTH))

    def forward(self, given):
        x = given if self.passes == "tensor" else given[0]
        x = x + self.attn(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x if self.passes == "tensor" else [x] if self.passes == "list" else (x, None)


class WrittenViT(nn.Module):
    def __init__(self, style: Style, num_classes: int = 3):
        super().__init__()
        self.style = style
        self.front = {"none": 0, "last": 0, "registers behind": 0}.get(style.prefix, 1)
        self.behind = {"last": 1, "registers behind": 3, "first and registers": 2}.get(style.prefix, 0)
        if style.prefix in ("first", "last", "first and registers"):
            self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        if style.prefix in ("registers behind", "first and registers"):
            self.reg_tokens = nn.Parameter(torch.randn(1, self.behind, WIDTH))
        number = GRID[0] * GRID[1]
        self.proj = nn.Linear(3 * PATCH**2, WIDTH) if style.unfolds else nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.pos = nn.Parameter(torch.randn(1, number + self.front + self.behind, WIDTH) * 0.5)
        self.blocks = nn.ModuleList(WrittenBlock(style, self.front) for _ in range(DEPTH))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, num_classes)
        patches = torch.arange(number).unflatten(0, GRID)
        order = (patches.T if style.columns else patches).flatten().tolist()
        self.places = [-1] * self.front + order + [-1] * self.behind
        with torch.no_grad():
            for parameter in self.blocks.parameters():
                parameter.mul_(2 if parameter.ndim == 2 else 1)

    def tokens(self, images: Tensor) -> Tensor:
        if self.style.unfolds:
            x = self.proj(rearrange(images, "b c (y p) (x q) -> b y x (c p q)", p=PATCH, q=PATCH))
            x = x.permute(0, 3, 1, 2)
        else:
            x = self.proj(images)
        return (x.mT if self.style.columns else x).flatten(2).mT

    def forward(self, images: Tensor) -> Tensor:
        x, count = self.tokens(images), len(images)
        before = [self.cls_token.expand(count, -1, -1)] if self.front else []
        after = []
        if self.style.prefix == "last":
            after = [self.cls_token.expand(count, -1, -1)]
        elif self.behind:
            after = [self.reg_tokens.expand(count, -1, -1)]
        x = torch.cat([*before, x, *after], 1) + self.pos
        given = {"tensor": x, "list": [x], "tuple": (x, None)}[self.style.passes]
        for block in self.blocks:
            given = block(given)
        x = self.norm(given if self.style.passes == "tensor" else given[0])
        if self.style.prefix == "none" or self.style.prefix == "registers behind":
            return self.head(x[:, : GRID[0] * GRID[1]].mean(1))
        return self.head(x[:, -1] if self.style.prefix == "last" else x[:, 0])

    @property
    def truth(self) -> list[Tensor]:
        return [block.attn.truth for block in self.blocks]

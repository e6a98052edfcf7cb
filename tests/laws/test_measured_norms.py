"""A model may normalise over the whole image, so that every patch moves every token a little; places are those of the
tokens that move the most."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from plain_vit import Attention, ViT, made
from tiny import see_attention
from vitral import explain
from vitral.base.errors import UsageError

BEFORE = {
    "instance norm": F.instance_norm,
    "standardised": lambda x: (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True),
}
AFTER = {
    "one group": lambda z: F.group_norm(z.mT, 1).mT,
    "four groups": lambda z: F.group_norm(z.mT, 4).mT,
    "over tokens": lambda z: F.layer_norm(z, z.shape[1:]),
    "mean added": lambda z: z + 0.1 * z.mean(1, keepdim=True),
    "gated": lambda z: z * z.mean(1, keepdim=True).sigmoid(),
}
NORMS = [*BEFORE, *AFTER]
PATCHES = tuple(f"patch {row} {column}" for row in range(4) for column in range(4))


class Normalised(ViT):
    """`reorder` changes the order of the tokens behind the first block."""

    def __init__(self, norm: str, has_cls: bool = False, reorder=lambda z: z, attention: type = Attention):
        super().__init__(attention, has_cls=has_cls)
        self.norm, self.reorder = norm, reorder
        self.patch = nn.Conv2d(3, 16, 16, 16)

    def tokens(self, images: Tensor) -> Tensor:
        x = self.patch(BEFORE.get(self.norm, lambda x: x)(images)).flatten(2).mT
        x = AFTER.get(self.norm, lambda z: z)(x)
        return (torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) if self.has_cls else x) + self.pos

    def through(self, x: Tensor) -> Tensor:
        first, *others = self.blocks
        x = self.reorder(x + first(x))
        for block in others:
            x = x + block(x)
        return x


class ReadByLatents(Normalised):
    def __init__(self, norm: str):
        super().__init__(norm)
        self.latents, self.pool = nn.Parameter(torch.randn(1, 16, 16)), Attention()

    def read(self, x: Tensor) -> Tensor:
        q, (_, k, v) = self.pool.split(self.latents.expand(len(x), -1, -1))[0], self.pool.split(x)
        return self.head(rearrange(self.pool.attend(q, k, v), "b h n e -> b n (h e)").mean(1))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("has_cls", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_tokens_are_the_patches_that_move_them_most(norm, has_cls, images):
    layers = see_attention(made(Normalised(norm, has_cls)), images).layers
    expected = ("cls",) * has_cls + PATCHES
    assert [layer.roles for layer in layers] == [expected] * 2
    assert all(layer.queries_are_keys for layer in layers)


REORDERED = {
    "turned": (lambda z: z.flip(1), PATCHES[::-1]),
    "by columns": (
        lambda z: rearrange(z, "b (y x) d -> b (x y) d", y=4),
        tuple(f"patch {row} {column}" for column in range(4) for row in range(4)),
    ),
    "rolled": (lambda z: z.roll(5, 1), PATCHES[-5:] + PATCHES[:-5]),
}


@pytest.mark.parametrize("order", REORDERED)
@pytest.mark.parametrize("norm", NORMS)
def test_another_order_of_a_later_layer_is_seen(norm, order, images):
    reorder, roles = REORDERED[order]
    model = made(Normalised(norm, reorder=reorder))
    assert [layer.roles for layer in see_attention(model, images).layers] == [PATCHES, roles]
    with pytest.raises(UsageError):
        explain.rollout(model, images)


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "four groups"])
def test_learned_queries_are_not_the_patches(norm, images):
    *blocks, pool = see_attention(made(ReadByLatents(norm)), images).layers
    assert all(layer.queries_are_keys for layer in blocks) and not pool.queries_are_keys


class PerChannel(Normalised):
    """Each colour runs through the model by itself; the answers are averaged."""

    def __init__(self, norm: str = "", kernel: int = 16):
        super().__init__(norm)
        self.patch = nn.Conv2d(3, 16, kernel, 16, (kernel - 16) // 2)

    def forward(self, images: Tensor) -> Tensor:
        grey = images.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
        return super().forward(grey).unflatten(0, (-1, 3)).mean(1)


class Jittered(Normalised):
    """The image and copies with other colours stand behind one another in the batch."""

    def __init__(self, norm: str = "", kernel: int = 16):
        super().__init__(norm)
        self.patch = nn.Conv2d(3, 16, kernel, 16, (kernel - 16) // 2)

    def forward(self, images: Tensor) -> Tensor:
        answers = super().forward(torch.cat([images, images * 0.7 + 0.1, images.flip(1)]))
        return answers.unflatten(0, (3, -1)).mean(0)


class Ensemble(nn.Module):
    """Models of one form side by side, under `vmap`."""

    def __init__(self, norm: str = "", kernel: int = 16):
        super().__init__()
        self.models = nn.ModuleList(Normalised(norm) for _ in range(3))
        for model in self.models:
            model.patch = nn.Conv2d(3, 16, kernel, 16, (kernel - 16) // 2)

    def forward(self, images: Tensor) -> Tensor:
        parameters, buffers = torch.func.stack_module_state(list(self.models))

        def call(parameters: dict, buffers: dict) -> Tensor:
            return torch.func.functional_call(self.models[0], (parameters, buffers), (images,))

        return torch.vmap(call)(parameters, buffers).mean(0)


@pytest.mark.parametrize("changes", [{}, {"kernel": 24}, {"norm": "instance norm"}, {"norm": "one group"}], ids=str)
@pytest.mark.parametrize("model", [PerChannel, Jittered, Ensemble])
def test_views_are_no_heads_where_tokens_see_several_patches(model, changes, images):
    model = made(model(**changes))
    with pytest.raises(UsageError, match="attends to the same patches in several groups of tokens per image"):
        _ = see_attention(model, images).layers[0].tokens
    if isinstance(model, Ensemble):
        return  # what leaves the last block is known only within `vmap`
    with pytest.raises(UsageError, match="attends to the same patches in several groups of tokens per image"):
        explain.attention(model, images)


@pytest.mark.parametrize("kernel", [20, 24, 32])
def test_heads_stay_heads_where_patches_overlap(kernel, images):
    model = Normalised("")
    model.patch = nn.Conv2d(3, 16, kernel, 16, (kernel - 16) // 2)
    assert [layer.num_heads for layer in see_attention(made(model), images).layers] == [2, 2]


KEPT = {
    "every second column": lambda z: z[..., ::2],
    "every second row": lambda z: z[:, :, 1::2],
    "a checkerboard": lambda z: torch.stack([z[:, :, ::2, ::2], z[:, :, 1::2, 1::2]], -1).flatten(3),
    "one of four": lambda z: z[:, :, ::2, 1::2],
    "the middle": lambda z: z[:, :, 1:-1, 1:-1],
    "those of a mask": lambda z: z.flatten(2)[:, :, [0, 3, 5, 6, 9, 10, 12, 15]][:, :, None],
}


class Holes(ViT):
    """Masked patches have no tokens (He et al. 2022, "Masked Autoencoders", §3)."""

    def __init__(self, kept: str, has_cls: bool, norm: str):
        super().__init__(has_cls=has_cls)
        self.kept, self.norm = KEPT[kept], norm
        self.patch = nn.Conv2d(3, 16, 16, 16)

    def tokens(self, images: Tensor) -> Tensor:
        x = self.kept(self.patch(BEFORE.get(self.norm, lambda x: x)(images))).flatten(2).mT
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) if self.has_cls else x
        return x + self.pos[:, : x.shape[1]]


@pytest.mark.parametrize("norm", ["", "standardised"])
@pytest.mark.parametrize("has_cls", [False, True])
@pytest.mark.parametrize("kept", KEPT)
def test_patches_without_a_token_are_not_covered_by_others(kept, has_cls, norm, images):
    model = made(Holes(kept, has_cls, norm))
    for method in (explain.attention, explain.rollout):
        with pytest.raises(UsageError, match=r"Only \d of 16 patches change a token|only a part of the image"):
            method(model, images)


class Merged(ViT):
    """Two by two patches are merged into a token by a linear layer, a convolution or a mean."""

    def __init__(self, merge: str):
        super().__init__(has_cls=False)
        self.patch = nn.Sequential(
            nn.Conv2d(3, 16, 8, 8), {"conv": nn.Conv2d(16, 16, 2, 2), "mean": nn.AvgPool2d(2)}[merge]
        )


@pytest.mark.parametrize("merge", ["conv", "mean"])
def test_merged_patches_are_seen_whole(merge, images):
    layers = see_attention(made(Merged(merge)), images).layers
    assert [layer.roles for layer in layers] == [PATCHES] * 2

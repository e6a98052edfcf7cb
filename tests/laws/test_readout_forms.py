"""Whatever a block returns, the tokens that the answer is read from are measured; what is assumed is said."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from own_vit import Attention
from tiny import redraw
from vitral import explain
from vitral.base.errors import WatchError
from vitral.explain.observation import observe

METHODS = ("attention", "rollout", "chefer", "attention_gradient")
Halves = namedtuple("Halves", ["cls", "patches"])


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attention, self.mlp = nn.LayerNorm(16), Attention(), nn.Linear(16, 16)

    def whole(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.mlp(x).relu()

    def forward(self, x):
        return self.whole(x)


class Plain(nn.Module):
    """A ViT of CLS and 4 x 4 patches, whose blocks may take and return its tokens in any form."""

    block, read = Block, "patches"

    def __init__(self, depth=2):
        super().__init__()
        self.patches, self.cls_token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.zeros(1, 1, 16))
        self.position = nn.Parameter(torch.zeros(1, 17, 16))
        self.blocks = nn.ModuleList(self.block() for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def start(self, x):
        return x

    def end(self, x):
        return x

    def tokens(self, images):
        x = self.patches(images).flatten(2).mT
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.position

    def through(self, x):
        x = self.start(x)
        for block in self.blocks:
            x = block(x)
        return self.end(x)

    def pool(self, x):
        x = self.norm(x)
        return x[:, 0] if self.read == "cls" else x[:, 1:].mean(1)

    def forward(self, images):
        return self.head(self.pool(self.through(self.tokens(images))))


class InHalves(Plain):
    class block(Block):
        def forward(self, halves):
            y = self.whole(torch.cat(list(halves), 1))
            return y[:, :1], y[:, 1:]

    def start(self, x):
        return x[:, :1], x[:, 1:]

    def end(self, halves):
        return torch.cat(list(halves), 1)


class PatchesFirst(Plain):
    """CLS is first within the block, and second in what it returns."""

    class block(Block):
        def forward(self, halves):
            y = self.whole(torch.cat([halves[1], halves[0]], 1))
            return y[:, 1:], y[:, :1]

    def start(self, x):
        return x[:, 1:], x[:, :1]

    def end(self, halves):
        return torch.cat([halves[1], halves[0]], 1)


class Turned(Plain):
    """One tensor, whose last token is CLS between the blocks, and whose first is within them."""

    class block(Block):
        def forward(self, x):
            return self.whole(x.roll(1, 1)).roll(-1, 1)

    def start(self, x):
        return x.roll(-1, 1)

    def end(self, x):
        return x.roll(1, 1)


class Named(InHalves):
    class block(Block):
        def forward(self, halves):
            y = self.whole(torch.cat([halves.cls, halves.patches], 1))
            return Halves(y[:, :1], y[:, 1:])

    def start(self, x):
        return Halves(x[:, :1], x[:, 1:])


class InADict(Plain):
    class block(Block):
        def forward(self, parts):
            y = self.whole(torch.cat([parts["cls"], parts["patches"]], 1))
            return {"patches": y[:, 1:], "cls": y[:, :1]}

    def start(self, x):
        return {"patches": x[:, 1:], "cls": x[:, :1]}

    def end(self, parts):
        return torch.cat([parts["cls"], parts["patches"]], 1)


class States(Plain):
    """Each block returns a list of all hidden states so far."""

    class block(Block):
        def forward(self, states):
            return [*states, self.whole(states[-1])]

    def start(self, x):
        return [x]

    def end(self, states):
        return states[-1]


class Appended(States):
    """Each block adds to the list that it was given, and returns nothing new."""

    class block(Block):
        def forward(self, states):
            states.append(self.whole(states[-1]))
            return states


class WeightsFirst(Plain):
    """(mean attention, tokens)"""

    class block(Block):
        def forward(self, given):
            y = self.whole(given[1])
            return self.attention.weights.mean(1), y

    def start(self, x):
        return None, x

    def end(self, given):
        return given[1]


class WeightsLast(Plain):
    class block(Block):
        def forward(self, given):
            y = self.whole(given[0])
            return y, self.attention.weights

    def start(self, x):
        return x, None

    def end(self, given):
        return given[0]


class Kept(Plain):
    """The block keeps its tokens as an attribute, where the model takes them from."""

    class block(Block):
        def forward(self, x):
            self.kept = self.whole(x)
            return self.kept.mean()

    def through(self, x):
        for block in self.blocks:
            block(x)
            x = block.kept
        return x


FORMS = [InHalves, PatchesFirst, Turned, Named, InADict, States, Appended, WeightsFirst, WeightsLast, Kept]


@pytest.fixture
def pictures():
    return torch.randn(2, 3, 16, 16)


def alike(model, plain, pictures, methods=METHODS):
    plain.load_state_dict(model.state_dict(), strict=False)
    plain.eval()
    for name in methods:
        found, expected = (getattr(explain, name)(each, pictures) for each in (model, plain))
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-5, err_msg=name)
        assert found.reader == expected.reader and "assumed" not in found.caption


@pytest.mark.parametrize("read", ["patches", "cls"])
@pytest.mark.parametrize("form", FORMS)
def test_the_readout_is_measured_whatever_a_block_returns(form, read, pictures):
    model, plain = redraw(form()), Plain()
    model.read = plain.read = read
    assert observe(model, pictures).readout == ((0,) if read == "cls" else tuple(range(1, 17)))
    alike(model, plain, pictures)


@pytest.mark.parametrize("registers_first", [True, False])
def test_registers_beside_the_tokens_do_not_shift_the_readout(registers_first, pictures):
    class Registers(Plain):
        read = "cls"

        class block(Block):
            def forward(self, given):
                registers, x = given if registers_first else given[::-1]
                y = self.whole(torch.cat([registers, x], 1))
                parts = y[:, :2], y[:, 2:]
                return parts if registers_first else parts[::-1]

        def __init__(self):
            super().__init__()
            self.register_tokens = nn.Parameter(torch.randn(1, 2, 16))

        def start(self, x):
            given = self.register_tokens.expand(len(x), -1, -1), x
            return given if registers_first else given[::-1]

        def end(self, given):
            return given[1 if registers_first else 0]

    model = redraw(Registers())
    assert observe(model, pictures).readout == (2,)
    assert explain.attention(model, pictures).reader == "CLS"


def zero_head(model):
    nn.init.zeros_(model.head.weight)
    return model


class Detached(Plain):
    def pool(self, x):
        return super().pool(x).detach()


class OneHot(Plain):
    def forward(self, images):
        return nn.functional.one_hot(super().forward(images).argmax(1), 5).float()


@pytest.mark.parametrize(
    "make",
    [lambda: zero_head(redraw(Plain())), lambda: redraw(Detached()), lambda: redraw(OneHot())],
    ids=["head of zeros", "detached", "one-hot"],
)
def test_a_readout_that_no_gradient_tells_is_said_to_be_assumed(make, pictures):
    model = make()
    for name in ("attention", "rollout"):
        assert "could not measure which tokens" in (caption := getattr(explain, name)(model, pictures).caption), name
        assert "CLS is assumed." in caption
    assert "assumed" not in explain.attention(model, pictures, query=(1, 1)).caption


def test_where_no_class_token_is_assumed_all_tokens_are(pictures):
    class NoClass(Plain):
        def tokens(self, images):
            return self.patches(images).flatten(2).mT

        def pool(self, x):
            return self.norm(x)[:, 3].detach()

    assert "the mean of all tokens is assumed." in explain.attention(redraw(NoClass()), pictures).caption


class MaxPool(Plain):
    def pool(self, x):
        return self.norm(x).amax(1)


class MaxOfPatches(Plain):
    def pool(self, x):
        return torch.cat([self.norm(x)[:, 0], x[:, 1:].amax(1)], 1)[:, 8:24]


class Best(Plain):
    """The mean of the three patches of the largest norm."""

    def pool(self, x):
        best = x[:, 1:].norm(dim=2).topk(3).indices
        return x[:, 1:].gather(1, best[..., None].expand(-1, -1, 16)).mean(1)


@pytest.mark.parametrize("kind", [MaxPool, MaxOfPatches, Best])
def test_each_image_is_read_from_its_own_tokens(kind):
    torch.manual_seed(3)
    model, pictures = redraw(kind()), torch.randn(4, 3, 16, 16)
    read = [observe(model, image[None]).readout for image in pictures]
    assert len(set(read)) > 1
    for name in METHODS:
        together = getattr(explain, name)(model, pictures)
        for number in range(4):
            alone = getattr(explain, name)(model, pictures[[number]])
            np.testing.assert_allclose(together.values[number], alone.values[0], rtol=1e-3, atol=1e-5)
    assert explain.attention(model, pictures).reader == "the mean of the tokens that each image is read from"


class Frozen(Plain):
    """Its first block runs in a way in which no gradient passes it."""

    def __init__(self, how):
        super().__init__(depth=3)
        self.how = how

    def through(self, x):
        for number, block in enumerate(self.blocks):
            x = self.first(block, x) if not number else block(x)
        return x

    def first(self, block, x):
        if self.how == "checkpoint":
            return checkpoint(block, x, use_reentrant=True)
        if self.how == "detach":
            return block(x).detach()
        with torch.no_grad():
            return block(x)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("how", ["checkpoint", "detach", "no_grad"])
def test_chefer_refuses_a_layer_that_no_gradient_reaches(how, pictures):
    model = redraw(Frozen(how))
    with pytest.raises(WatchError, match=r"no gradient reaches blocks\.0\.attention: .*layers=\['blocks\.1\.att"):
        explain.chefer(model, pictures)
    later = ["blocks.1.attention", "blocks.2.attention"]
    plain = Plain(depth=3).eval()
    plain.load_state_dict(model.state_dict())
    found, expected = (explain.chefer(each, pictures, layers=later) for each in (model, plain))
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-5)

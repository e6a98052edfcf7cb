"""A model may put its tokens into another order from one run to the next: each map shows the order of its own run."""

import enum
import os
import random
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from handmade import Plain, made
from tiny import see_attention
from vitral import explain
from vitral.base.errors import UsageError, WatchError

GRID = (2, 3)  # patches
IN_ROWS, IN_COLUMNS = torch.arange(6), torch.arange(6).reshape(GRID).T.flatten()
OUTSIDE = {"order": "rows"}
IMAGES = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


class Scan(enum.Enum):
    ROWS = 0
    COLUMNS = 1


@dataclass
class Config:
    order: str


class Scanned(Plain):
    """Its order is in an attribute of some kind; `turn` changes that, and gives the order that it has then."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.turn("rows")

    def turn(self, order):
        places = IN_COLUMNS if order == "columns" else IN_ROWS
        if self.kind == "a global":
            OUTSIDE["order"] = order
            return places
        if self.kind == "a parameter":
            self.state = nn.Parameter(torch.eye(6)[places])
            return places
        self.state = {
            "an enum": Scan.COLUMNS if order == "columns" else Scan.ROWS,
            "a dict": {"order": order},
            "a dataclass": Config(order),
            "a namespace": SimpleNamespace(order=order),
            "an array": places.numpy(),
            "a tensor": places.clone(),
            "a function": lambda: places,
            "a flag": order == "columns",
        }[self.kind]
        return places

    @property
    def places(self):
        state = OUTSIDE if self.kind == "a global" else self.state
        if isinstance(state, torch.Tensor | np.ndarray):
            return torch.as_tensor(state)
        if callable(state):
            return state()
        word = state["order"] if isinstance(state, dict) else getattr(state, "order", state)
        return IN_COLUMNS if word in ("columns", True, Scan.COLUMNS) else IN_ROWS

    def embedded(self, images):
        x, places = self.patch(images).flatten(2).mT, self.places
        x = places @ x if places.is_floating_point() else x[:, places]
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.place


KINDS = [
    *("a flag", "an enum", "a dict", "a dataclass", "a namespace", "an array", "a tensor", "a parameter"),
    *("a global", "a function"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_have_the_places_of_their_own_run(kind):
    model = made(Scanned, kind)
    for order in ("rows", "columns", "rows"):
        places = model.turn(order).tolist()
        tokens = see_attention(model, IMAGES).layers[0].tokens
        assert list(tokens.patch_tokens) == [1 + places.index(patch) for patch in range(6)]


@pytest.mark.parametrize("method", ["attention", "rollout", "chefer", "attention_gradient", "grad_cam"])
def test_a_map_is_that_of_a_model_that_was_never_turned(method):
    turned, fresh = made(Scanned, "a dict"), made(Scanned, "a dict")
    draw = getattr(explain, method)
    draw(turned, IMAGES)
    for model in (turned, fresh):
        model.turn("columns")
    one, other = (draw(model, IMAGES).values for model in (turned, fresh))
    assert np.allclose(one, other, atol=1e-5)


class Shuffled(Plain):
    """Patches are shuffled after their positions were added, so that the answer is the same in any order."""

    def __init__(self, source):
        super().__init__()
        self.source, self.used = source, None
        self.generator, self.rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
        self.count = [0]

    def shuffled(self):
        self.count[0] += 1
        return {
            "NumPy": lambda: torch.from_numpy(np.random.permutation(6)),  # noqa: NPY002 - what people write
            "Python": lambda: torch.tensor(random.sample(range(6), 6)),
            "a generator": lambda: torch.randperm(6, generator=self.generator),
            "NumPy's generator": lambda: torch.from_numpy(self.rng.permutation(6)),
            "a counter": lambda: torch.arange(6).roll(self.count[0]),
        }[self.source]()

    def embedded(self, images):
        x = self.patch(images).flatten(2).mT + self.place[:, 1:]
        self.used = self.shuffled()
        cls = (self.cls_token + self.place[:, :1]).expand(len(x), -1, -1)
        return torch.cat([cls, x[:, self.used]], 1)


# Where types are checked, the checker draws from Python's generator, too.
PUT_BACK = ["NumPy", "a generator", "a counter", *([] if os.environ.get("VITRAL_TYPED") else ["Python"])]


@pytest.mark.parametrize("source", PUT_BACK)
def test_shuffled_patches_are_put_back(source):
    model = made(Shuffled, source)
    for _ in range(3):
        layer = see_attention(model, IMAGES).layers[0]
        places = model.used.tolist()
        assert list(layer.tokens.patch_tokens) == [1 + places.index(patch) for patch in range(6)]


@pytest.mark.parametrize("source", ["NumPy", "Python", "a generator", "NumPy's generator", "a counter"])
@pytest.mark.parametrize("method", ["attention", "chefer", "grad_cam"])
def test_a_map_does_not_depend_on_the_shuffle(source, method):
    model, found = made(Shuffled, source), []
    for _ in range(3):
        try:
            found.append(getattr(explain, method)(model, IMAGES, **({} if method == "attention" else {"target": 1})))
        except (UsageError, WatchError) as error:  # it may be refused, never wrong
            assert "places in the image are not known" in str(error) or "no feature map" in str(error)
    for one in found[1:]:
        assert np.allclose(one.values, found[0].values, atol=1e-4)

"""`vitral.embed`: the features that the head takes, or what a model without a head returns."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import vitral
from tiny import tiny_vit, with_record
from vitral.base.errors import ConfigError, UsageError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.preprocess import normalise

SEEN = Preprocessing((8, 18))


@pytest.fixture
def pixels():
    return list(np.random.default_rng(0).integers(0, 256, (3, 8, 18, 3), np.uint8))


def prepared(model, pixels):
    return normalise(torch.from_numpy(np.stack(pixels)), model.preprocessing)


@torch.no_grad()
def test_the_head_gives_the_logits_of_the_features(pixels):
    model = attach_record(tiny_vit(), replace(with_record(tiny_vit()).record, preprocessing=SEEN))
    found = vitral.embed(model, pixels)
    assert found.features.shape == (3, 16) and found.what == "the input of the head, 'head' (16 to 5)"
    logits = model(prepared(model, pixels))
    torch.testing.assert_close(model.head(torch.from_numpy(np.asarray(found))), logits, rtol=1e-4, atol=1e-5)
    assert found.images == ("image-0", "image-1", "image-2")


@torch.no_grad()
def test_a_model_without_a_head_gives_what_it_returns(pixels):
    model = attach_record(tiny_vit(num_classes=0), ModelRecord((), SEEN))
    found = vitral.embed(model, pixels)
    assert "which has no head" in found.what
    np.testing.assert_allclose(found.features, model(prepared(model, pixels)).numpy(), rtol=1e-4, atol=1e-6)


class Tokens(nn.Module):
    """A model without a head that returns all its tokens."""

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(3, 4)

    def forward(self, images):
        return self.proj(images.flatten(2).mT)


class Pairs(nn.Module):
    """A head that scores two halves of each image one after the other."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, images):
        return self.head(images[..., :9].mean((2, 3))) + self.head(images[..., 9:].mean((2, 3)))


def test_a_model_without_one_vector_per_image_is_refused(pixels):
    with pytest.raises(UsageError, match=r"returns \(3, 144, 4\) for 3 images; one vector"):
        vitral.embed(attach_record(Tokens(), ModelRecord((), SEEN)), pixels)
    with pytest.raises(UsageError, match="'head', is not called once per image"):
        vitral.embed(attach_record(Pairs(), ModelRecord(("a", "b"), SEEN)), pixels)
    with pytest.raises(UsageError, match="features of places"):
        vitral.embed(attach_record(Tokens(), ModelRecord(("a", "b"), SEEN, "segmentation")), pixels)


def test_pyarrow_is_asked_for_before_anything_is_read(monkeypatch, tmp_path, pixels):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'vitral\[parquet\]'"):
        vitral.embed("no model", tmp_path, out=tmp_path / "out.parquet")

"""Of a model that returns several tensors, only the layers that its answer depends on are shown and multiplied."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from own_vit import Attention, OwnViT
from tiny import redraw, see_attention
from vitral import explain

METHODS = ("attention", "rollout", "chefer", "attention_gradient", "grad_cam")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = Attention()

    def forward(self, x):
        return x + self.attention(x)


class Several(OwnViT):
    """A classifier that returns more than its scores; `extra` makes the other part, of its last tokens."""

    reads_patches = False

    def __init__(self):
        super().__init__()
        self.blocks, self.decoder = (nn.ModuleList([Block(), Block()]) for _ in range(2))
        self.pixels = nn.Linear(16, 48)

    def features(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.position
        for block in self.blocks:
            x = block(x)
        return x

    def scores(self, x):
        return self.head(x[:, 1:].mean(1) if self.reads_patches else x[:, 0])

    def decoded(self, x):
        for block in self.decoder:
            x = block(x)
        return self.pixels(x[:, 1:])

    def forward(self, images):
        return self.scores(self.features(images))


class ADict(Several):
    def forward(self, images):
        x = self.features(images)
        return {"logits": self.scores(x), "reconstruction": self.decoded(x)}


class ATuple(Several):
    def forward(self, images):
        x = self.features(images)
        return self.scores(x), self.decoded(x)


class DecodedFirst(Several):
    def forward(self, images):
        x = self.features(images)
        return [self.decoded(x), self.scores(x)]


class AnObject(Several):
    def forward(self, images):
        x = self.features(images)
        decoded = self.decoded(x)
        return SimpleNamespace(reconstruction=decoded, logits=self.scores(x))


class WithTeacher(Several):
    def __init__(self):
        super().__init__()
        self.teacher = OwnViT()

    def forward(self, images):
        scores = self.scores(self.features(images))
        with torch.no_grad():
            return {"logits": scores, "teacher": self.teacher(images)}


class TeacherFirst(WithTeacher):
    def forward(self, images):
        target = self.teacher(images).detach()
        return {"target": target, "logits": self.scores(self.features(images))}


class DeeplySupervised(Several):
    """Further blocks have a head of their own."""

    def forward(self, images):
        x = self.features(images)
        scores, x = self.scores(x), self.decoder[0](x)
        return {"logits": scores, "auxiliary": self.head(x[:, 0])}


class Kept(Several):
    """What the decoder makes is not even returned."""

    def forward(self, images):
        x = self.features(images)
        self.reconstruction = self.decoded(x)
        return self.scores(x)


KINDS = [ADict, ATuple, DecodedFirst, AnObject, WithTeacher, TeacherFirst, DeeplySupervised, Kept]


@pytest.mark.parametrize("reads_patches", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_those_of_the_model_that_returns_its_answer_alone(kind, reads_patches):
    pictures = torch.randn(2, 3, 16, 16)
    model = redraw(kind())
    alone = Several().eval()
    alone.load_state_dict(model.state_dict(), strict=False)
    model.reads_patches = alone.reads_patches = reads_patches
    for name in METHODS:
        found, expected = (getattr(explain, name)(each, pictures) for each in (model, alone))
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-5)
        assert found.reader == expected.reader and found.layers == expected.layers
        if name in ("attention", "rollout", "chefer"):
            others = "teacher.blocks.0" if hasattr(model, "teacher") else "decoder.0"
            assert others in found.caption and "the output does not depend" in found.caption.replace("The", "the")
    torch.testing.assert_close(explain.logit_lens(model, pictures), explain.logit_lens(alone, pictures))


@pytest.mark.parametrize("kind", [ADict, TeacherFirst])
def test_a_layer_that_the_answer_does_not_depend_on_is_shown_when_it_is_named_and_said_to_be_that(kind):
    model, pictures = redraw(kind()), torch.randn(2, 3, 16, 16)
    layers = see_attention(model, pictures).layers
    number = next(index for index, layer in enumerate(layers) if not layer.name.startswith("blocks"))
    maps = explain.attention(model, pictures, layers=[number])
    assert f"The output does not depend on {layers[number].name}." in maps.caption
    assert not maps.of_answer


def test_where_the_answer_cannot_be_told_every_layer_counts():
    class Two(Several):
        def forward(self, images):
            x = self.features(images)
            return self.scores(x), self.head(self.decoder[0](x)[:, 0])

    seen = see_attention(redraw(Two()), torch.randn(2, 3, 16, 16))
    assert len(seen.of_answer) == len(seen.layers) == 3

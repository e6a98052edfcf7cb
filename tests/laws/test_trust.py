"""How far to trust one image's map: random orders decide, whatever the batch, and what cannot be told is said."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tiny import tiny_vit
from vitral import Maps, explain
from vitral.base.errors import ShapeError
from vitral.base.numerics import cpu_computes_in_bfloat16
from vitral.explain.controls.random import random as noise_map
from vitral.explain.entry import explainer
from vitral.explain.observation import observe
from vitral.explain.trials import FEWER_ORDERS, ORDERS, Trials, trust
from vitral.explain.trust import FALSE_POSITIVES, Trust


class OnePatch(nn.Module):
    """The answer hangs on one patch of a 6 x 6 grid, and on nothing else; its bias makes it sure."""

    grid, num_prefix_tokens = (6, 6), 0

    def __init__(self, row, column):
        super().__init__()
        self.rows, self.columns = (slice(4 * place, 4 * place + 4) for place in (row, column))
        self.scale = nn.Parameter(torch.tensor(6.0))

    def forward(self, images):
        seen = images[:, :, self.rows, self.columns].mean(dim=(1, 2, 3))
        return torch.stack([self.scale * seen - 3, 3 - self.scale * seen], dim=1)


class Constant(nn.Module):
    """The same answer to every image; as sure of its classes as it is told."""

    grid, num_prefix_tokens = (2, 3), 0

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def some_maps(values, **more):
    """Maps of a method that gives one an image."""
    values = np.asarray(values, np.float32)[:, None, None]
    mass, pixels = np.zeros((len(values), 1, 1), np.float32), np.zeros((len(values), 4, 4, 3), np.uint8)
    return Maps("mine", "Shown.", values, mass, pixels, ("all",), (0,), None, **more)


def only(maps, image):
    """The maps of one image of a batch."""
    part = slice(image, image + 1)
    own = {name: getattr(maps, name)[part] for name in ("values", "prefix_mass", "pixels", "targets", "class_names")}
    return replace(maps, **own)


def test_a_map_that_is_right_is_nearly_always_better_than_chance():
    """A random order does as well only if it starts with the one patch: of 300, 8.3 on average, and with 15 p > 0.05.

    So many or more happen in 2 of 100 places (binomial), so that 35 of 36 pass on average, and fewer than 31 once in
    10,000 draws. Nothing that right is ever said to be worse.
    """
    images = torch.ones(1, 3, 24, 24)
    found = []
    for place in range(36):
        model = OnePatch(*divmod(place, 6)).eval()
        maps = explain.occlusion(model, images)
        assert maps.values.argmax() == place and (maps.values != 0).sum() == 1
        found += trust(model, images, maps)
    assert sum(one.better_than_chance for one in found) >= 31
    assert {one.verdict for one in found} <= {"better than chance", "inconclusive for a single image"}
    assert all(len(one.by_chance) == ORDERS for one in found)
    sentences = " ".join(one.sentence for one in found)
    assert "This single image is inconclusive on whether the map finds the patches that the" in sentences


def test_a_map_that_is_wrong_where_much_hangs_on_little_is_worse_than_chance():
    images, model = torch.ones(1, 3, 24, 24), OnePatch(2, 3).eval()
    upside_down = some_maps(-explain.occlusion(model, images).values[:, 0, 0])
    (found,) = trust(model, images, upside_down)
    assert found.verdict == "worse than chance"
    conclusion = "So the map finds the patches that the probability of class 0 depends on worse than chance."
    assert conclusion in found.sentence


def test_the_p_value_counts_ties_and_is_never_zero():
    found = Trust(0.3, (0.1, 0.3, 0.5, 0.7), 0.0, "disk")
    assert (found.as_good, found.as_bad, found.p) == (2, 3, 3 / 5)
    assert Trust(0.0, (0.5,) * 19, 0.0, "disk").p == 1 / 20 <= FALSE_POSITIVES
    assert Trust(0.0, (0.5,) * 19, 0.0, "disk").better_than_chance
    assert Trust(0.9, (0.5,) * 19, 0.0, "disk").verdict == "worse than chance"


def test_noise_is_better_than_chance_as_seldom_as_it_is_said_to_be(vit):
    images = torch.randn(100, 3, 8, 18, generator=torch.Generator().manual_seed(0))
    verdicts = [one.verdict for one in trust(vit, images, explainer(noise_map)(vit, images))]
    # 5 of 100 on average on either side; 13 or more of 100 happen once in a thousand
    assert verdicts.count("better than chance") < 13 and verdicts.count("worse than chance") < 13


def test_an_image_has_the_same_verdict_in_any_batch(vit, images):
    maps = explain.occlusion(vit, images)
    together = trust(vit, images, maps)
    assert together == [trust(vit, images[at : at + 1], only(maps, at))[0] for at in range(2)]
    turned = trust(vit, images.flip(0), replace(maps, values=maps.values[::-1], targets=maps.targets[::-1]))
    assert [one.by_chance for one in turned[::-1]] == [one.by_chance for one in together]
    assert together[0].by_chance != together[1].by_chance


def test_the_random_orders_are_gone_through_once_for_all_maps_and_classes(vit, images):
    passes = []
    vit.register_forward_hook(lambda module, args, output: passes.append(len(args[0])))
    trials = Trials(observe(vit, images, ["feature maps"]))
    first = trials.trust(explain.occlusion(vit, images))
    maps = [explain.occlusion(vit, images, target) for target in (0, 1)]
    expected = [trust(vit, images, one)[0] for one in maps]
    counted = len(passes)
    again = [trials.trust(one)[0] for one in maps]
    assert len(passes) - counted <= 2 * 2  # one order an image and map
    assert again == expected and all(len(one.by_chance) == ORDERS for one in first)


def test_a_large_grid_has_fewer_orders_and_says_how_many():
    model, images = Half().eval(), torch.ones(1, 3, 18, 18)
    (found,) = trust(model, images, some_maps(np.random.default_rng(0).random((1, 9, 9))))
    assert len(found.by_chance) == FEWER_ORDERS and f"with {FEWER_ORDERS} random orders" in found.sentence


class OnePatchOfMany(OnePatch):
    grid = (14, 14)


def test_on_a_large_grid_a_single_patch_is_found():
    """The map covers it first; of 39 random orders two or more do so once in 58 images (binomial)."""
    images, found = torch.ones(1, 3, 56, 56), []
    for place in range(0, 196, 10):
        model = OnePatchOfMany(*divmod(place, 14)).eval()
        found += trust(model, images, some_maps((np.arange(196.0) == place).reshape(1, 14, 14)))
    assert sum(one.better_than_chance for one in found) >= 17


def test_a_large_model_is_tested_in_bfloat16_only_where_its_answer_stays():
    images = torch.ones(1, 3, 128, 128)

    class Large(nn.Module):
        """Adds the pixels up to `total`, and takes the offset from the sum: in bfloat16, 500.3 is 500."""

        grid, num_prefix_tokens = (4, 4), 0

        def __init__(self, total: float, offset: float):
            super().__init__()
            self.unused, self.total, self.offset = nn.Parameter(torch.zeros(5_000_000)), total, offset

        def forward(self, images):
            pixels = images.flatten(1)
            weight = torch.full((1, pixels.shape[1]), self.total / pixels.shape[1], dtype=images.dtype)
            seen = nn.functional.linear(pixels, weight).float() - self.offset
            return torch.cat([seen, -seen], dim=1)

    def precision(total: float, offset: float, images: torch.Tensor) -> torch.dtype:
        return Trials(observe(Large(total, offset).eval(), images, ["feature maps"])).precision(0)

    assert precision(0.3, 0, images) == (torch.bfloat16 if cpu_computes_in_bfloat16() else torch.float32)
    assert precision(500.3, 500, images) == torch.float32
    assert precision(0.3, 0, images.double()) == torch.float64


class Standardising(nn.Module):
    """Divides each image by its own deviation, which is zero once all patches are covered."""

    def __init__(self):
        super().__init__()
        self.inner = OnePatch(0, 0)

    def forward(self, images):
        return self.inner(images / images.std(dim=(1, 2, 3), keepdim=True))


def test_an_answer_that_is_not_a_number_is_not_called_better_than_chance():
    images = torch.randn(1, 3, 8, 18, generator=torch.Generator().manual_seed(0))
    (found,) = trust(Standardising().eval(), images, some_maps(np.arange(6.0).reshape(1, 2, 3)))
    assert found.verdict == "cannot be tested" and "the scores are NaN or infinite" in found.sentence


class Half(nn.Module):
    """Sure of its first class as far as the left half is bright."""

    grid, num_prefix_tokens = (9, 9), 0

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, images):
        seen = self.scale * (images[..., :9].mean(dim=(1, 2, 3)) - 0.5)
        return torch.stack([seen, -seen], dim=1)


UNTESTED = {
    "a class with no chance": (Constant(9.0, -9.0), dict(targets=(1,)), "the probability of class 1 is 0.0%"),
    "an answer that nothing changes": (Constant(1.0, 0.0), {}, "whichever patches are covered first"),
    "a model with one output": (Constant(0.3), {}, "the probability of class 0 averages 100.0%"),
    "another reader": (Constant(1.0, 0.0), dict(of_answer=False, reader="the patch there"), "the patch there"),
}


@pytest.mark.parametrize("kind", UNTESTED)
def test_what_cannot_be_tested_is_said_with_its_reason(kind):
    model, more, reason = UNTESTED[kind]
    (found,) = trust(model.eval(), torch.ones(1, 3, 8, 18), some_maps([[[1, 2, 3], [4, 5, 6]]], **more))
    assert found.verdict == "cannot be tested" and not found.better_than_chance
    assert reason in found.sentence and "chance" not in found.sentence


def test_a_blank_image_cannot_be_tested(vit):
    blank = torch.zeros(1, 3, 8, 18)  # as the covered ones are
    (found,) = trust(vit, blank, some_maps([[[1, 2, 3], [4, 5, 6]]]))
    assert found.sentence.startswith("Cannot be tested on this image: whichever patches are covered first")


def test_a_model_without_classes_is_not_tested(images):
    model = tiny_vit(num_classes=0)
    maps = explain.tested(model, images, explain.attention(model, images))
    assert maps.verdicts == ("cannot be tested",) * 2
    assert "The model scores no classes" in maps.caption_of(1)


def test_the_map_of_a_patchs_reading_is_not_tested_and_that_of_cls_is(vit, images):
    reason = "Not tested: what the patch in row 0, column 1 attends to is not a claim about the prediction."
    assert explain.tested(vit, images, explain.attention(vit, images, query=(0, 1))).tested == (reason, reason)
    assert explain.attention(vit, images, query=0).of_answer and not explain.attention(vit, images, query=2).of_answer


def test_the_class_and_the_map_that_were_tested_are_named(vit, images):
    vit.classes = ("circle", "square", "<b>", "triangle", "ring")
    for maps, which in (
        (explain.attention(vit, images), " (blocks.2.attn, its 4 heads averaged)"),
        (explain.attention(vit, images, layers=[0], heads=[1]), ""),
        (explain.attention(vit, images, layers=[0, 1], heads=[1]), " (blocks.1.attn, head 1)"),
    ):
        answer = vit.classes[int(vit(images)[0].argmax())]
        begin = f"Tested{which}: with the map's highest patches covered first, the probability of {answer}"
        assert trust(vit, images, maps)[0].sentence.startswith(begin)


def test_maps_of_other_images_are_refused(vit, images):
    with pytest.raises(ShapeError, match="The maps show 2 images, but 1 images were passed"):
        trust(vit, images[:1], explain.rollout(vit, images))


def test_a_model_without_tokens_has_no_outliers():
    model = OnePatch(0, 0).eval()
    (found,) = trust(model, torch.ones(1, 3, 24, 24), some_maps(np.eye(6)[None]))
    assert found.on_outliers == 0

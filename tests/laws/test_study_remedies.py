"""The remedies for few images: shifted patches, reconstruction of hidden patches, distillation."""

from itertools import islice

import pytest
import torch
import torch.nn.functional as F

from vitral.nn.family.shifted import NormedPatches, ShiftedPatches
from vitral.nn.patch import PatchEmbedding
from vitral.nn.vit import VisionTransformer
from vitral.studies.arms import SAMPLES, VIT
from vitral.studies.claims.data_hunger import images
from vitral.studies.claims.remedies import DISTILLED, MASKED, REMEDIES
from vitral.studies.loops.distilled import TEMPERATURE, distillation_loss
from vitral.studies.loops.masked import Reconstruction
from vitral.studies.running.plan import training_for
from vitral.studies.study import Budget, Condition
from vitral.studies.training import train

SIDE, PATCH = 16, 4


def pictures(seed=0):
    return torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def training(arm, samples=512):
    return training_for(arm, Condition("few", images(256)), Budget(samples, 1, eval_images=100), seed=0, rate=1.0)


@torch.no_grad()
def test_a_shifted_patch_depends_on_its_own_pixels_and_half_a_patch_around_them():
    model = ShiftedPatches(SIDE, PATCH, 3, 8)
    row, column = 1, 2
    own = row * (SIDE // PATCH) + column
    before = model(pictures())
    seen = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    for y in range(SIDE):
        for x in range(SIDE):
            other = pictures()
            other[:, :, y, x] += 1
            seen[y, x] = not torch.equal(model(other)[:, own], before[:, own])
    half, expected = PATCH // 2, torch.zeros(SIDE, SIDE, dtype=torch.bool)
    expected[row * PATCH - half : (row + 1) * PATCH + half, column * PATCH - half : (column + 1) * PATCH + half] = True
    assert torch.equal(seen, expected)


@torch.no_grad()
def test_a_normed_patch_ignores_brightness_and_contrast_and_is_otherwise_the_patch():
    model = NormedPatches(SIDE, PATCH, 3, 8)
    plain, images = PatchEmbedding(SIDE, PATCH, 3, 8), pictures()
    plain.proj.weight.copy_(model.proj.weight.reshape_as(plain.proj.weight))
    plain.proj.bias.copy_(model.proj.bias)
    assert torch.allclose(model(3 * images + 2), model(images), atol=1e-5)
    inputs = F.unfold(images, PATCH, stride=PATCH)
    normed = (inputs - inputs.mean(1, keepdim=True)) / inputs.std(1, correction=0, keepdim=True)
    assert torch.allclose(model(images), plain(F.fold(normed, SIDE, PATCH, stride=PATCH)), atol=1e-4)


@torch.no_grad()
def test_the_first_inputs_of_a_shifted_patch_are_the_patch_itself():
    """With zero weights for the copies, it is the embedding of a normalised patch."""
    model = ShiftedPatches(SIDE, PATCH, 3, 8)
    own = 3 * PATCH * PATCH
    model.proj.weight[:, own:] = 0
    moved = pictures()
    every = F.unfold(moved, PATCH, stride=PATCH)
    copies = torch.cat([moved, *(F.pad(moved, (x, -x, y, -y)) for y in (-2, 2) for x in (-2, 2))], dim=1)
    inputs = F.unfold(copies, PATCH, stride=PATCH)
    mean, variance = inputs.mean(1, keepdim=True), inputs.var(1, correction=0, keepdim=True)
    normed = (every - mean) / (variance + 1e-6).sqrt()
    expected = torch.einsum("di,bin->bnd", model.proj.weight[:, :own, 0, 0], normed) + model.proj.bias
    assert torch.allclose(model(moved), expected, atol=1e-5)


def test_reconstruction_is_evaluated_on_hidden_pixels_that_the_model_does_not_see():
    """So the gradient for a hidden pixel comes from the target alone: 2 (pixel - predicted) / count."""
    vit = VisionTransformer(img_size=SIDE, patch_size=PATCH, num_classes=3, embed_dim=16, depth=1, num_heads=2)
    reconstruction = Reconstruction(vit)
    shown = pictures().requires_grad_()
    torch.manual_seed(0)
    hidden = torch.rand(len(shown), 1, *vit.grid) < 0.5
    covered = hidden.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3).expand_as(shown)
    torch.manual_seed(0)
    loss = reconstruction(shown)
    loss.backward()
    predicted = shown - shown.grad * covered.sum() / 2
    assert torch.isclose(((predicted - shown)[covered] ** 2).mean(), loss, atol=1e-5)
    with torch.no_grad():
        (features,) = vit.features(pictures().masked_fill(covered, 0.0), [-1])
        expected = F.pixel_shuffle(reconstruction.to_pixels(features), PATCH)
    assert torch.allclose(predicted[covered], expected[covered], atol=1e-4)


def test_the_distillation_loss_is_smallest_for_equal_outputs():
    own, teacher = torch.randn(4, 8, requires_grad=True), torch.randn(4, 8)
    assert distillation_loss(teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    assert distillation_loss(own, teacher).item() > 0
    distillation_loss(own, teacher).backward()
    soft = [(logits / TEMPERATURE).softmax(1) for logits in (own, teacher)]
    assert torch.allclose(own.grad, TEMPERATURE * (soft[0] - soft[1]) / 4, atol=1e-6)


@pytest.mark.parametrize("arm", [DISTILLED, MASKED], ids=lambda arm: arm.name)
def test_a_remedy_takes_as_many_steps_as_the_plain_vit_in_all(arm):
    numbers = []
    _, record = train(training(arm), on_step=numbers.append)
    assert not record["diverged"]
    assert numbers == [128 * step for step in range(1, 5)]


def test_every_remedy_has_the_budget_of_the_plain_vit():
    assert {arm.samples for arm in (VIT, *REMEDIES)} == {1.0}
    assert SAMPLES // VIT.recipe.get("batch_size", 128) == 400


def test_a_training_depends_on_the_code_of_its_parts_and_of_its_loop():
    for arm in REMEDIES:
        code = training(arm).modules
        parts = [value.__module__.removeprefix("vitral.") for value in arm.settings.values() if callable(value)]
        assert {*parts, *islice(arm.loop.split(":"), 1)} - {""} <= set(code)

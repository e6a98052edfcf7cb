"""Tokens whose places follow from what an image shows, as where a model crops images, have no map over the image."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plain_vit import ViT, made
from vitral import explain, watch
from vitral.base.errors import UsageError, WatchError

REASON = "depends on what the image shows"


def photograph(margins: tuple[int, int, int, int]) -> Tensor:
    """Bright within margins (top, bottom, left, right), black outside."""
    top, bottom, left, right = margins
    inside = 0.2 + torch.rand(1, 3, 32 - top - bottom, 32 - left - right, generator=torch.Generator().manual_seed(0))
    return F.pad(inside, (left, right, top, bottom))


BLACK_BORDERS = [photograph(margins) for margins in ((8, 0, 0, 8), (4, 4, 4, 4), (0, 0, 0, 16), (12, 8, 3, 2))]
WHOLE = photograph((0, 0, 0, 0))


class Wider(ViT):
    """8 x 8 patches of 4 pixels."""

    def __init__(self):
        super().__init__()
        self.pos = nn.Parameter(torch.randn(1, 65, 16) * 0.5)


class Cropping(Wider):
    """Crops each image to what is not black and resizes the crop, as models of mammograms do."""

    def forward(self, images: Tensor) -> Tensor:
        crops = []
        for image in images:
            rows, columns = (image.amax((0, axis)).gt(0.05).nonzero()[:, 0] for axis in (2, 1))
            crop = image[None, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            crops.append(F.interpolate(crop, size=(32, 32), mode="bilinear"))
        return super().forward(torch.cat(crops))


@pytest.mark.parametrize("images", BLACK_BORDERS)
def test_places_that_follow_the_image_are_refused(images):
    torch.manual_seed(0)
    model = made(Cropping())
    for batch in (images, torch.cat([WHOLE, images])):
        for method in (explain.attention, explain.rollout, explain.attention_gradient):
            with pytest.raises(UsageError, match=REASON):
                method(model, batch)
        with pytest.raises(WatchError, match=REASON):
            explain.grad_cam(model, batch)
    assert explain.occlusion(model, images, grid=(8, 8)).values.any()


@pytest.mark.parametrize("kind", [Cropping, Wider])
def test_an_image_that_is_seen_whole_has_its_places(kind):
    model = made(kind())
    with torch.no_grad(), watch(model) as seen:
        model(WHOLE)
    assert seen.layers[0].tokens.grid == (8, 8)


class Standardised(Wider):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward((images - images.mean((1, 2, 3), True)) / (images.std((1, 2, 3), keepdim=True) + 1e-3))


class Stretched(Wider):
    """From the darkest to the brightest value of each image."""

    def forward(self, images: Tensor) -> Tensor:
        low, high = images.amin((1, 2, 3), True), images.amax((1, 2, 3), True)
        return super().forward((images - low) / (high - low + 1e-6))


class NormalisedTokens(Wider):
    def tokens(self, images: Tensor) -> Tensor:
        return F.layer_norm(super().tokens(images), (65, 16))


class MeanFirst(Wider):
    """CLS starts as the mean of the patches."""

    def tokens(self, images: Tensor) -> Tensor:
        x = self.patch(images).flatten(2).mT
        return torch.cat([x.mean(1, keepdim=True), x], 1) + self.pos


ORDINARY = [
    *BLACK_BORDERS,
    torch.full((1, 3, 32, 32), 0.4),
    torch.zeros(1, 3, 32, 32),
    torch.linspace(0, 1, 32).expand(1, 3, 32, 32),
    -3 + photograph((30, 0, 30, 0)),
]


@pytest.mark.parametrize("kind", [Wider, Standardised, Stretched, NormalisedTokens, MeanFirst])
def test_models_that_normalise_each_image_are_not_refused(kind):
    model = made(kind())
    for images in (*ORDINARY, torch.cat(ORDINARY)):
        with torch.no_grad(), watch(model, rows=[0]) as seen:
            model(images)
        try:
            assert seen.layers[0].tokens.patch_tokens == tuple(range(1, 65))
        except UsageError as error:  # not known for random images either
            assert kind in (NormalisedTokens, MeanFirst) and REASON not in str(error)


class Overlapping(Wider):
    """Tokens that each see several patches."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 7, 4, 3)


class CroppingOverlapping(Overlapping, Cropping):
    pass


@pytest.mark.parametrize("images", BLACK_BORDERS)
def test_overlapping_tokens_that_follow_the_image_are_refused(images):
    torch.manual_seed(0)
    model = made(CroppingOverlapping())
    for batch in (images, torch.cat([WHOLE, images])):
        with pytest.raises(UsageError, match=f"{REASON}|places in the image are not known"):
            explain.attention(model, batch)


@pytest.mark.parametrize("images", [*ORDINARY, torch.cat(ORDINARY)])
def test_overlapping_tokens_that_stay_are_not_refused(images):
    torch.manual_seed(0)
    with torch.no_grad(), watch(model := made(Overlapping()), rows=[0]) as seen:
        model(images)
    assert seen.layers[0].tokens.patch_tokens == tuple(range(1, 65))


class Sorting(Wider):
    """Sorts the images of a batch by their width that is not black, and puts the answers back in order."""

    def forward(self, images: Tensor) -> Tensor:
        order = images.amax((1, 2)).gt(0.05).sum(1).argsort(stable=True)
        return super().forward(images[order])[order.argsort()]


def test_images_that_are_sorted_are_to_be_given_one_at_a_time():
    torch.manual_seed(0)
    model = made(Sorting())
    with pytest.raises(UsageError, match="Give the model one image at a time") as refusal:
        explain.attention(model, torch.cat([WHOLE, *BLACK_BORDERS]))
    assert "another order" in str(refusal.value) and "crop" not in str(refusal.value).lower()
    plain = made(Wider())
    plain.load_state_dict(model.state_dict())
    for images in BLACK_BORDERS:
        found, expected = (explain.attention(one, images) for one in (model, plain))
        assert (found.values == expected.values).all()

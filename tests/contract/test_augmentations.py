"""What every file in `data/augmentation` keeps; a new one is enrolled by existing."""

import pytest
import torch

from vitral.base.lookup import find, names
from vitral.data.augmentation.shift import shift
from vitral.training.recipe import Recipe

ALL = names("data.augmentation")


@pytest.fixture(params=ALL)
def augment(request):
    return find("data.augmentation", request.param, "augmentation")


@pytest.fixture
def some():
    """Images as the model takes them, from black, -1, to white, 1."""
    drawn = torch.rand(16, 3, 24, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    drawn[0, :, :4], drawn[1, :, :4] = -1, 1
    return drawn


def test_every_augmentation_can_be_asked_for_on_the_command_line():
    assert [Recipe(augment=name).augment for name in ALL] == ALL


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (4, 3, 24, 32), (3, 3, 7, 5)])
def test_shape_and_precision_stay(augment, shape):
    changed = augment(torch.rand(shape), 0)
    assert changed.shape == shape
    assert changed.dtype == torch.float32


def test_the_same_seed_gives_the_same_images(augment, some):
    torch.manual_seed(1)
    first = augment(some.clone(), 7)
    torch.manual_seed(2)
    assert torch.equal(augment(some.clone(), 7), first)


def test_the_images_that_were_given_are_left_as_they_are(augment, some):
    before = some.clone()
    augment(some, 3)
    assert torch.equal(some, before)


def test_nobody_elses_random_numbers_are_touched(augment, some):
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    augment(some, 3)
    assert torch.equal(torch.rand(4), expected)


def test_values_stay_between_black_and_white(augment, some):
    changed = augment(some, 3)
    assert changed.min() >= -1 - 1e-5 and changed.max() <= 1 + 1e-5


@pytest.mark.parametrize("name", [name for name in ALL if name != "none"])
def test_another_seed_changes_the_images_otherwise(name, some):
    change = find("data.augmentation", name, "augmentation")
    assert not torch.equal(change(some, 0), change(some, 1))


@pytest.mark.parametrize("name", [name for name in ALL if name != "none"])
def test_each_image_of_a_batch_is_changed_on_its_own(name, some):
    alike = some[:1].expand(16, -1, -1, -1).clone()
    assert len(torch.unique(find("data.augmentation", name, "augmentation")(alike, 0), dim=0)) > 4


def test_none_changes_nothing(some):
    assert torch.equal(find("data.augmentation", "none", "augmentation")(some, 9), some)


def moved(image, down, right):
    """`image` moved by whole pixels, its border repeated."""
    _, height, width = image.shape
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return image[:, rows][:, :, columns]


def test_shift_moves_by_whole_pixels_up_to_an_eighth_of_the_side(some):
    seen = set()
    for seed in range(8):
        for before, after in zip(some, shift(some, seed)):
            fits = [(y, x) for y in range(-3, 4) for x in range(-4, 5) if torch.equal(moved(before, y, x), after)]
            assert len(fits) == 1
            seen.add(fits[0])
    assert {y for y, _ in seen} == set(range(-3, 4))
    assert {x for _, x in seen} == set(range(-4, 5))

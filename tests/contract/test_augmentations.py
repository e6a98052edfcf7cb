"""What every file in `data/augmentation` keeps; a new one is enrolled by existing."""

import pytest
import torch

from two_tones import agreement
from vitral.base.lookup import find, names
from vitral.data.augment import Augment, find_augment
from vitral.data.augmentation.shift import shift
from vitral.training.recipe import Recipe

ALL = names("data.augmentation")


@pytest.fixture(params=ALL)
def name(request):
    return request.param


@pytest.fixture
def augment(name):
    return find("data.augmentation", name, "augmentation")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def changed_by(augment, images, seed):
    """The images alone, augmented with a generator of this seed."""
    return augment(images, None, generator(seed))[0]


@pytest.fixture
def some():
    """Images in the order of memory of a split's, y x c."""
    drawn = torch.randint(0, 256, (16, 24, 32, 3), generator=generator(0), dtype=torch.uint8)
    drawn[0, :4], drawn[1, :4] = 0, 255
    return drawn.movedim(-1, 1)


def test_every_augmentation_can_be_asked_for_on_the_command_line():
    assert [Recipe(augment=name).augment for name in ALL] == ALL


def test_every_augmentation_satisfies_the_protocol(augment):
    assert isinstance(augment, Augment)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (4, 3, 24, 32), (3, 3, 7, 5), (2, 3, 1, 1), (2, 3, 1, 40)])
def test_shape_and_type_stay(augment, shape):
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(1))
    changed, masks = augment(images, None, generator(0))
    assert changed.shape == shape
    assert changed.dtype == torch.uint8
    assert masks is None


@pytest.mark.parametrize("size", [(20, 20), (24, 32), (40, 16)])
def test_images_of_another_size_are_given_in_the_size_of_the_model(name, some, size):
    masks = torch.randint(0, 5, (16, 24, 32), generator=generator(1))
    changed, moved = find_augment(name, size)(some, masks, generator(0))
    assert changed.shape == (16, 3, *size) and moved.shape == (16, *size)
    assert set(moved.unique().tolist()) <= set(range(5))
    if size == some.shape[-2:]:
        assert torch.equal(changed, changed_by(find_augment(name), some, 0))


def test_the_order_in_memory_changes_nothing(augment, some):
    assert torch.equal(changed_by(augment, some.contiguous(), 4), changed_by(augment, some, 4))


def test_what_happens_to_an_image_does_not_depend_on_the_others(augment, some):
    other = some.clone()
    other[0] = 255 - some[0]
    before, after = changed_by(augment, some, 5), changed_by(augment, other, 5)
    assert torch.equal(before[1:], after[1:])


def test_the_same_seed_gives_the_same_images(augment, some):
    torch.manual_seed(1)
    first = changed_by(augment, some.clone(), 7)
    torch.manual_seed(2)
    assert torch.equal(changed_by(augment, some.clone(), 7), first)


def test_the_images_that_were_given_are_left_as_they_are(augment, some):
    before = some.clone()
    changed_by(augment, some, 3)
    assert torch.equal(some, before)


def test_nobody_elses_random_numbers_are_touched(augment, some):
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    changed_by(augment, some, 3)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("name", [name for name in ALL if name != "none"])
def test_a_generator_goes_on_so_that_the_next_batch_is_changed_otherwise(name, some):
    change, rng = find("data.augmentation", name, "augmentation"), generator(0)
    assert not torch.equal(change(some, None, rng)[0], change(some, None, rng)[0])


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.bool])
def test_masks_keep_their_shape_their_type_and_their_classes(augment, some, kind):
    masks = torch.randint(0, 5, (16, 24, 32), generator=generator(1)).to(kind)
    before = masks.clone()
    images, changed = augment(some, masks, generator(0))
    assert changed.shape == masks.shape and changed.dtype == kind
    assert set(changed.unique().tolist()) <= set(masks.unique().tolist())
    assert torch.equal(masks, before)
    assert torch.equal(images, changed_by(augment, some, 0))


def test_a_mask_marks_the_same_object_afterwards(augment):
    """A light object on a dark ground: strong changes of colours make a few of them alike."""
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij")
    masks = ((rows - 20) ** 2 + (columns - 36) ** 2 < 14**2).expand(16, -1, -1).clone()
    images = (60 + 150 * masks[:, None].byte()).expand(-1, 3, -1, -1).clone()
    found = [share for seed in range(4) for share in agreement(*augment(images, masks, generator(seed)))]
    assert len(found) > 48 and sum(found) / len(found) > 0.97


@pytest.mark.parametrize("name", [name for name in ALL if name != "none"])
def test_another_seed_changes_the_images_otherwise(name, some):
    change = find("data.augmentation", name, "augmentation")
    assert not torch.equal(changed_by(change, some, 0), changed_by(change, some, 1))


@pytest.mark.parametrize("name", [name for name in ALL if name != "none"])
def test_each_image_of_a_batch_is_changed_on_its_own(name, some):
    alike = some[:1].expand(16, -1, -1, -1).clone()
    change = find("data.augmentation", name, "augmentation")
    assert len(torch.unique(changed_by(change, alike, 0), dim=0)) >= (2 if name.endswith("flip") else 5)


def test_none_changes_nothing(some):
    assert torch.equal(changed_by(find("data.augmentation", "none", "augmentation"), some, 9), some)


def moved(image, down, right):
    """`image` moved by whole pixels, its border repeated."""
    _, height, width = image.shape
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return image[:, rows][:, :, columns]


def test_shift_moves_by_whole_pixels_up_to_an_eighth_of_the_side(some):
    seen = set()
    for seed in range(8):
        for before, after in zip(some, changed_by(shift, some, seed)):
            fits = [(y, x) for y in range(-3, 4) for x in range(-4, 5) if torch.equal(moved(before, y, x), after)]
            assert len(fits) == 1
            seen.add(fits[0])
    assert {y for y, _ in seen} == set(range(-3, 4))
    assert {x for _, x in seen} == set(range(-4, 5))

"""Remember where the tokens of a model stand, and hold that against a short run each time.

How it is measured is in `recording.probes`. The order of tokens may follow from a setting, a counter or a random
generator that nobody sees from outside, so what is remembered is checked: four images, up to the first attention.

It may also follow from the image: a model may crop each image to what is not black, which no random image shows. So the
given images are held against it, too, each with some of its own patches exchanged.

Axes:  b images   u units (heads and windows of an image)   m key tokens   k mixtures
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitral.recording.apart import Subject, first_call
from vitral.recording.askers import MovedKeys
from vitral.recording.indices import Grid
from vitral.recording.places import Found, Places, decode
from vitral.recording.probes import by_image, is_known, measure, mixed_by, mixtures, order_masks, random_pair

HALF = 0.5  # of the way from A to B
ASTRAY = 0.3  # of the way between two images, over all tokens: how far they may be from where they must be
BESIDE = 2  # patches on each side of a border of two images, whose tokens may see both
MOST_IMAGES = 8  # that are checked in one run
KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[str, ...], "tuple[Found, ...]"]] = WeakKeyDictionary()
# How often the weights had been changed then: places that depend on the image may not have done so before training.
CHANGES: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def places_of(subject: Subject) -> tuple[Found, ...]:
    """What the tokens of each call of attention stand for, for images of this size; None where it cannot be settled.

    A single one whose images are the keys stands for all calls. Measured once for a model and an image size, and held
    against one run each time: the order of tokens may follow from a setting that nobody sees from outside.
    """
    if not subject.treats_images_alike:
        return ()
    found = KNOWN.setdefault(subject.model, {})
    version = changes_of(subject.model)
    if CHANGES.get(subject.model) != version and any(map(sees_several, sum(found.values(), ()))):
        found.clear()
    CHANGES[subject.model] = version
    batch = len(subject.images)
    key = (*subject.key, str(batch))
    for one in (subject.key, key):
        if one in found and not still_hold(subject, found[one]):
            del found[one]
    if subject.key not in found and (places := measured(subject)):
        found[subject.key] = places
    if subject.key not in found and key not in found:
        # A model that was traced takes the batch that it was traced with; one that loops over its images shows each
        # layer once for each of them, so that these are told apart in a batch of one only.
        found[key] = measured(replace(subject, fixed_batch=batch)) or tuple(
            replace(places, is_alone=batch > 1) if isinstance(places, Places) else places
            for places in measured(replace(subject, fixed_batch=1))
        )
    places = found[subject.key if subject.key in found else key]
    if not (followed := follows_content(subject, places)):
        return places
    if followed == "order" and batch == 1:
        return places
    changes: dict[str, Any] = {"are_reordered": True} if followed == "order" else {"follows_content": True}
    return tuple(replace(one, **changes) if isinstance(one, Places) else one for one in places)


def changes_of(model: nn.Module) -> int:
    """How often the parameters were changed in place, which PyTorch does not count in inference mode."""
    return sum(one._version for one in model.parameters() if not one.is_inference())


def sees_several(found: Found) -> bool:
    """Whether it is of tokens that each see several patches, so that little is known of where these are."""
    return isinstance(found, Places) and not found.exact


def measured(subject: Subject) -> tuple[Found, ...]:
    """What `measure` finds; nothing for a model that raises."""
    try:
        return measure(subject)
    except Exception:  # a stranger's model may raise anything for images that it was not given
        return ()


def still_hold(subject: Subject, found: Sequence[Found]) -> bool:
    """Whether the tokens of the first call of attention stand where they were measured."""
    first = next(iter(found), None)
    if not isinstance(first, Places) or first.batch_axis == "keys":
        return True  # no map depends on it
    return any(holds(replace(subject, fixed_batch=fixed), first) for fixed in (0, len(subject.images), 1))


def holds(subject: Subject, first: Places) -> bool:
    """See `still_hold`, of a model that is run with a batch of this size."""
    a, b = random_pair(subject)
    try:
        if not first.exact:
            alone, together = (first_call(subject, images, []) for images in (a, mixtures(a, b, first.grid)))
            again = decode(alone.values, together.values, first.grid) if alone and together else None
            return again is not None and torch.equal(again.patches, first.patches)
        masks = order_masks(first.grid)
        images = torch.cat([a, b, mixed_by(masks, a, b)])
        values = values_of_first(subject, images, first)
        if values is None:
            return False
        expected = masks.flatten(1).to(values.device)[:, first.patches.clamp_min(0)] & (first.patches >= 0)
        return torch.equal(MovedKeys.of(values).way[1:] > HALF, expected)
    except Exception:  # a stranger's model may raise anything for images that it was not given
        return False


def follows_content(subject: Subject, found: Sequence[Found]) -> Literal["", "content", "order"]:
    """Whether the tokens of the given images are other patches than those of random images, by their content; or only
    the images stand in another order of a batch, as where they are sorted by how much of them is not black.

    Each image is mixed with itself, moved by half of its sides: so the mixture has the colours of the image, and a
    model that normalises over the whole image gives nearly the same tokens. Only the first call of attention is seen.
    """
    first = next(iter(found), None)
    if not isinstance(first, Places) or first.batch_axis == "keys":
        return ""
    for images in subject.images.detach().split(MOST_IMAGES):
        # Random images in their place tell this from an order that is drawn at random.
        if are_astray(subject, images, first) and not any(
            are_astray(subject, other.expand_as(images), first) for other in random_pair(subject)
        ):
            alone = replace(subject, fixed_batch=1)
            unknown = values_of_first(alone, images, first) is None
            return "content" if unknown or are_astray(alone, images, first) else "order"
    return ""


def are_astray(subject: Subject, images: Float[Tensor, "b c y x"], first: Places) -> bool:
    """See `follows_content`; of some images."""
    return any(is_astray(subject, images, first, *each) for each in exchanged_patches(first))


def is_astray(
    subject: Subject,
    images: Float[Tensor, "b c y x"],
    first: Places,
    mask: Bool[Tensor, "gy gx"],
    clear: Bool[Tensor, "gy gx"],
) -> bool:
    """See `are_astray`; where the patches of a mask are exchanged, by the tokens of the patches that are `clear`."""
    count = len(images)
    moved = images.roll((images.shape[2] // 2, images.shape[3] // 2), (2, 3))
    every = torch.cat([images, moved, mixed_by(mask.expand(count, -1, -1), images, moved)])
    for fixed in [subject.fixed_batch] if subject.fixed_batch else (0, len(subject.images), 1):
        values = values_of_first(replace(subject, fixed_batch=fixed), every, first)
        if values is not None:
            break
    else:
        return False
    start, end, mixture = values.unflatten(0, (3, count))
    patches, holds = first.patches.clamp_min(0), first.patches >= 0
    is_moved, is_clear = (one.flatten().to(values.device)[patches] for one in (mask, clear))
    error = (mixture - torch.where((is_moved & holds)[None, :, :, None], end, start)).norm(dim=-1)
    counts = (is_clear | ~holds).to(values)
    return bool(((error * counts).sum((1, 2)) > ASTRAY * ((end - start).norm(dim=-1) * counts).sum((1, 2))).any())


def exchanged_patches(first: Places) -> Iterator[tuple[Bool[Tensor, "gy gx"], Bool[Tensor, "gy gx"]]]:
    """Which patches of an image are exchanged, and which tokens then hold one image alone.

    Where a token sees several patches, half of the columns or of the rows is exchanged, and those far from the border
    of the two images are clear; none of a grid too small for that.
    """
    if first.exact:
        yield order_masks(first.grid)[0], torch.ones(first.grid, dtype=torch.bool)
        return
    rows, columns = first.grid
    for size, numbers in ((columns, torch.arange(columns)[None]), (rows, torch.arange(rows)[:, None])):
        number, half = numbers.expand(rows, columns), size // 2
        if half > BESIDE:
            yield number < half, (number < half - BESIDE) | (number >= half + BESIDE)


def values_of_first(subject: Subject, images: Tensor, first: Places) -> Float[Tensor, "b u m e"] | None:
    """The values of the first call of attention; None if the model raises, or has other units."""
    try:
        call = first_call(subject, images, [])
        values = None if call is None else by_image(call.values, len(images), first)
    except Exception:  # a stranger's model may raise anything for images that it was not given
        return None
    return values if values is not None and values.shape[1:3] == first.patches.shape else None


def attends_over_batch(model: nn.Module, size: Grid) -> bool:
    """Whether an image's attention goes to the other images of a batch, as by a mistake in the order of axes."""
    if is_known(model):
        return False
    image = torch.zeros(1, 3, *size, device=next((value.device for value in model.parameters()), None))
    return any(
        isinstance(places, Places) and places.batch_axis == "keys"
        for places in places_of(Subject(model, image, (image,), {}))
    )

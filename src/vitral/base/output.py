"""Which part of what a model returned is its answer: the scores of the classes, if it scores classes.

A model may return one tensor, or a tuple, list, dict or object with several, such as (features, logits) or (logits,
attention). Training, evaluation, prediction and explanation find its answer by this one rule:

1. a tensor alone, or the one called `logits`;
2. the one of shape (B, K) or, for one image whose axis the model squeezed away, (K,); K is the number of classes, or
   any number where that is not known;
3. where no part has such a shape: the one of more axes than two that has K channels, as a segmenter's;
4. where the number of classes is not known: the one that is not attention, for methods that need no class.

Where that leaves several, or none of K classes, there is no answer but a sentence with the shapes.

Axes:  b images   k classes
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitral.base.errors import UsageError
from vitral.base.record import record_of

if TYPE_CHECKING:
    from torch import Tensor, nn

FEATURES = ("pooler_output", "last_hidden_state")  # what Hugging Face calls the features of models without a head
DEEPEST = 3  # levels of tuples, lists and dicts in which tensors are looked for


class AmbiguousOutput(UsageError):
    """A model returned several tensors, and which of them is its answer cannot be told."""


@dataclass(frozen=True)
class Output:
    """The answer among what a model returned.

    `scores_classes` is whether it holds one score per class, (B, K). `note` says which element it is, where there was a
    choice, or what was added to it; it is empty otherwise.
    """

    tensor: Any
    scores_classes: bool
    note: str = ""


@dataclass(frozen=True)
class Part:
    """A tensor among what a model returned, and where: `element 1`, `field 'scores'`, `element 1[0]`."""

    place: str
    tensor: Any

    def __str__(self) -> str:
        return f"{self.place} {tuple(self.tensor.shape)}"


def find_output(model: "nn.Module", result: Any, num_images: int, num_classes: int | None = None) -> Output:
    """The answer among what `model` returned for so many images, by the rule above.

    `num_classes` is the number of its classes where the caller knows better than the model.

    Raises `UsageError` if there is no tensor, or only whole numbers; `AmbiguousOutput` if there are several that may be
    the answer, or none for the model's classes.
    """
    from torch import Tensor

    name, classes = model_class(model), num_classes or class_count(model)
    parts = [Part("", result)] if isinstance(result, Tensor) else distinct(parts_of(result))
    if not parts:
        raise UsageError(f"The model returned a {type(result).__name__} that contains no tensor to explain.")
    real = [part for part in parts if part.tensor.is_floating_point()]
    if not real:
        raise UsageError(f"{name} returned {parts[0].tensor.dtype} values; return logits, not class indices.")
    logits = [part for part in real if part.place == "field 'logits'"]
    if len(parts) == 1 or logits:
        only = (logits or real)[0]
        features = only.place.endswith(tuple(f"field '{field}'" for field in FEATURES))
        return as_output(model, only, num_images, "", scores=not features)
    named = {field: part for part in real for field in FEATURES if part.place == f"field '{field}'"}
    candidates = [part for part in real if part not in named.values()]
    several = f"{name} returns a {type(result).__name__}"
    for fits in (is_one_score_per_class, is_one_score_per_place):
        found = [part for part in candidates if fits(part.tensor, num_images, classes)]
        if len(found) == 1:
            taken = f"{several}; its {found[0].place}, {tuple(found[0].tensor.shape)}, is taken as the scores."
            return as_output(model, found[0], num_images, taken, fits is is_one_score_per_class)
        if found:
            raise AmbiguousOutput(
                f"{several} in which several parts could be the scores: {listed(found)}. {way_out(classes, num_images)}"
            )
    if named:
        return as_output(model, named[min(named, key=FEATURES.index)], num_images, "", scores=False)
    if classes is not None:
        raise AmbiguousOutput(
            f"{several} in which no part holds scores of the model's {classes} classes: {listed(parts)}. "
            f"{way_out(classes, num_images)}"
        )
    others = [part for part in candidates if part.tensor.ndim > 1 and not is_attention(part.tensor)] or candidates
    if len(others) > 1:
        raise AmbiguousOutput(
            f"{several} in which several parts could be the output: {listed(others)}. {way_out(classes, num_images)}"
        )
    taken = f"{several}; its {others[0].place}, {tuple(others[0].tensor.shape)}, is taken as the output."
    return as_output(model, others[0], num_images, taken, scores=False)


def find_scores(model: "nn.Module", result: Any, num_images: int, num_classes: int | None = None) -> Output:
    """The same, for a caller who needs one score per class, (B, K). Raises `UsageError` if there are none."""
    output = find_output(model, result, num_images, num_classes)
    if not output.scores_classes:
        raise UsageError(
            f"{model_class(model)} returns {tuple(output.tensor.shape)} for {num_images} "
            f"image{'s' * (num_images > 1)}, not one score per class (B, K)."
        )
    return output


def find_answer(model: "nn.Module", result: Any, images: "Tensor") -> Output:
    """The answer of a model's task for some images: (b, k), or for segmentation (b, k, y, x) in the images' size.

    Raises `UsageError` if there is none of that shape.
    """
    record, num_images = record_of(model), images.shape[0]  # while a model is traced, `len` would fix the number
    if record is None or record.task != "segmentation":
        return find_scores(model, result, num_images)
    output = find_output(model, result, num_images)
    wanted = (num_images, len(record.classes), *images.shape[2:])
    if tuple(output.tensor.shape) != wanted:
        raise UsageError(
            f"{model_class(model)} returns {tuple(output.tensor.shape)} for images {tuple(images.shape)}; a "
            f"segmentation model returns one logit per class and pixel, {wanted}."
        )
    return output


def as_output(model: "nn.Module", part: Part, num_images: int, note: str, scores: bool) -> Output:
    """An output of this part, with the axis of images that a model squeezed away for one image."""
    tensor = part.tensor
    if scores and is_squeezed(tensor, num_images):
        shape = tuple(tensor.shape)
        tensor = tensor[None]
        added = f"{model_class(model)} returns {shape} for one image, without a batch axis: taken as (1, K)."
        note = f"{note} {added}".strip()
    return Output(tensor, scores and tensor.ndim == 2 and not has_no_head(model), note)


def parts_of(result: Any, place: str = "", depth: int = 0) -> Iterator[Part]:
    """The tensors in what a model returned, each with its place."""
    from torch import Tensor

    if isinstance(result, Tensor):
        yield Part(place, result)
        return
    if depth == DEEPEST:
        return
    items: Sequence[tuple[Any, Any]]
    if isinstance(result, tuple | list):
        names = getattr(result, "_fields", None)  # of a named tuple
        items = list(zip(names, result)) if names else list(enumerate(result))
    elif isinstance(result, Mapping):
        items = list(result.items())
    else:
        items = list(getattr(result, "__dict__", {}).items())
    for key, value in items:
        first = f"element {key}" if isinstance(key, int) else f"field {key!r}"
        yield from parts_of(value, f"{place}[{key!r}]" if place else first, depth + 1)


def distinct(parts: Iterator[Part]) -> list[Part]:
    """Each tensor once, at its first place."""
    return list({id(part.tensor): part for part in reversed(list(parts))}.values())[::-1]


def is_one_score_per_class(tensor: "Tensor", num_images: int, classes: int | None) -> bool:
    """Whether it has the shape (B, K), or (K,) for one image."""
    squeezed = is_squeezed(tensor, num_images)
    is_matrix = tensor.ndim == 2 and len(tensor) == num_images
    return (is_matrix or (squeezed and classes is not None)) and classes in (None, tensor.shape[-1])


def is_one_score_per_place(tensor: "Tensor", num_images: int, classes: int | None) -> bool:
    """Whether it has the shape (B, K, ...) or (B, ..., K), for a known number of classes."""
    return tensor.ndim > 2 and len(tensor) == num_images and classes in (tensor.shape[1], tensor.shape[-1])


def is_squeezed(tensor: "Tensor", num_images: int) -> bool:
    """Whether it may be the scores of one image without the axis of images; one number may be a loss."""
    return num_images == 1 and tensor.ndim == 1 and len(tensor) > 1


def is_attention(tensor: "Tensor") -> bool:
    """Whether its rows are weights: not negative, and of sum one."""
    if tensor.ndim < 3:
        return False
    values = tensor.detach().float()
    return bool((values >= 0).all()) and bool(((values.sum(-1) - 1).abs() < 0.01).all())


def class_count(model: "nn.Module") -> int | None:
    """How many classes a model scores, by its record or by what it states; None if that is not known."""
    record = record_of(model)
    config: Any = getattr(model, "config", None)
    stated = (
        len(record.classes) if record is not None else None,
        getattr(model, "num_classes", None),
        config.get("num_classes") if isinstance(config, dict) else getattr(config, "num_labels", None),
    )
    return next((count for count in stated if type(count) is int and count > 0), None)


def has_no_head(model: "nn.Module") -> bool:
    """Whether a model states that it has no classes (`num_classes` is 0)."""
    config = getattr(model, "config", None)
    return getattr(model, "num_classes", config.get("num_classes") if isinstance(config, dict) else None) == 0


def model_class(model: "nn.Module") -> str:
    """The name of the model's class, without the wrapper of `torch.compile`."""
    return type(getattr(model, "_orig_mod", model)).__name__


def listed(parts: Sequence[Part]) -> str:
    shown = ", ".join(map(str, parts[:6]))
    return f"{shown} and {len(parts) - 6} more" if len(parts) > 6 else shown


def way_out(classes: int | None, num_images: int) -> str:
    shape = f"({num_images}, {'K' if classes is None else classes})"
    stated = ", or set model.num_classes to the number of its classes" if classes is None else ""
    return f"Return the scores {shape} alone, or in a dict as 'logits'{stated}."

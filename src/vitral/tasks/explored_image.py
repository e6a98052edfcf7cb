"""One image as the explorer's page shows it: its layers, its pictures, and what the model answers after every block."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.base.answer import answer_of
from vitral.base.errors import ModelError, UsageError, WatchError
from vitral.base.prediction import predictions
from vitral.data.preprocess import normalise
from vitral.explain.answers_by_block import answers_by_block
from vitral.explain.maps import class_name, pixels_of
from vitral.explain.methods.attention import attention
from vitral.explain.observation import Observation, observe
from vitral.explorer.payload import Answers, ExploredImage
from vitral.explorer.pictures import pictures_of
from vitral.explorer.shown_layer import shown_layers
from vitral.store.classifier import Classifier
from vitral.tasks.explored_methods import relevance_maps

FIRST = 3  # answers that are named of each place


def explore_image(
    model: Classifier,
    name: str,
    pixels: UInt8[np.ndarray, "y x 3"],
    photo: UInt8[np.ndarray, "_ _ 3"] | None,
    methods: Sequence[str] = (),
    orders: int | None = None,
) -> ExploredImage:
    """What the model did with one image, and what relevance methods find in it.

    Raises `WatchError` if its attention cannot be seen or verified.
    """
    prepared = normalise(torch.from_numpy(np.stack([pixels])), model.preprocessing)
    observation = observe(model, prepared)
    layers, left_out = shown_layers(observation.attention)
    seen = pixels_of(model, prepared)[0]
    answers, why = None, ""
    try:
        answers = answers_of(model, prepared)
    except (UsageError, WatchError, ModelError) as error:
        why = str(error)
    relevance, refused = relevance_maps(model, prepared, methods, orders)
    return ExploredImage(
        name,
        answer_in_words(model, observation),
        pictures_of(seen, photo, model.preprocessing),
        seen,
        tuple(layers),
        left_out,
        reader_of(observation),
        answers,
        why,
        relevance=relevance,
        refused_methods=refused,
    )


def answer_in_words(model: Classifier, observation: Observation) -> str:
    """The prediction for the image, or that there is none."""
    if not observation.output.scores_classes:
        return "The model scores no classes."
    values = answer_of(model).values(observation.logits.double()).cpu().tolist()
    names = [class_name(model, index) for index in range(len(values[0]))]
    record, distances = model.record, observation.training_distances
    (one,) = predictions(["the image"], names, values, record.task, record.thresholds, distances)
    return one.text(FIRST)


def reader_of(observation: Observation) -> str:
    """The tokens that the prediction is read from, in words; empty where that is not known."""
    try:
        return attention(observation, layers=[-1]).reader
    except (UsageError, WatchError):
        return ""


def answers_of(model: nn.Module, image: Float[Tensor, "1 c y x"]) -> Answers:
    """The likeliest answers at each place in the residual stream."""
    is_number = answer_of(model).per_output == "number"
    values = answer_of(model).values(answers_by_block(model, image).double()).cpu().numpy()
    if not np.isfinite(values).all():
        raise UsageError("The head gives values that are not finite for the tokens of earlier blocks.")
    most = values.shape[1] if is_number else FIRST
    listed = dict.fromkeys(int(index) for row in values[::-1] for index in np.argsort(-row)[:most])
    chosen = list(listed)  # those of the last place come first
    names = tuple(class_name(model, index) for index in chosen)
    places = ("before block 0", *(f"after block {number}" for number in range(len(values) - 1)))
    rows = tuple(tuple(map(float, row[chosen])) for row in values)
    return Answers(names, places, rows, "number" if is_number else "probability")

"""Which rows of attention an exported model gives, and the module that computes them beside its answers.

They are those that `explain.attention` shows: in each layer what the tokens that the answer is read from attend to,
on average. The row of CLS costs one query instead of all; of a model that reads the mean of its tokens, and within
windows, all rows are formed.

Axes:  b images   c channels   y x pixels   l layers   h heads   n tokens
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError, UsageError, WatchError
from vitral.base.modes import evaluating
from vitral.explain.flow import further_use_note
from vitral.explain.observation import Observation, observe
from vitral.explain.readout import readout_in, readout_name
from vitral.exporting.graphs import Answering
from vitral.recording.layers import Layer, Recording
from vitral.recording.queries import query_row
from vitral.recording.traced import WindowMean, trace_rows
from vitral.store.artifact_maps import ArtifactMaps, LayerRows, in_outputs
from vitral.store.classifier import Classifier

ROWS_APART = 1e-5  # of the weights, which sum to one
WAY_OUT = "Without --maps the model is exported."


@dataclass(frozen=True)
class MapPlan:
    """The rows that files are to give, as their card describes them, and what is asked of each layer for them."""

    maps: ArtifactMaps
    wanted: tuple[tuple[int, ...] | WindowMean, ...]


class AnsweringWithMaps(nn.Module):
    """What `Answering` gives, then the outputs that the plan names: rows (b, l, h, n), how far each is off (b, l)."""

    def __init__(self, model: Classifier, plan: MapPlan):
        super().__init__()
        self.answering = Answering(model)
        self.wanted, self.outputs = plan.wanted, plan.maps.outputs

    def forward(self, images: Float[Tensor, "b c y x"]) -> tuple[Tensor, ...]:
        with trace_rows(self.wanted) as seen:
            returned = self.answering.model(images)
        answer, logits = self.answering.answer(returned, images)
        rows = [torch.stack([seen.rows[number] for number in numbers], dim=1) for numbers in self.outputs.values()]
        return answer, logits, *rows, torch.stack(seen.residuals, dim=1)


def plan_maps(model: Classifier, covers: str) -> MapPlan:
    """Which rows the model's files are to give; `covers` is the part of an image that the model sees, in words.

    The model runs on two random images, watched and as it is traced. Raises `ConfigError` if it has no attention, or
    none whose rows can be had while it is traced, with the reason.
    """
    if model.record.task == "segmentation":
        raise ConfigError(
            "The answer of a segmentation model is read from other tokens for each pixel, so that there is no row of "
            f"attention to hand out. {WAY_OUT} vitral explain shows regions of the model itself."
        )
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, len(model.preprocessing.mean), *model.preprocessing.size, generator=generator)
    try:
        observation = observe(model, images, ["attention"])
        check_layers(observation)
        maps, layers = describe_rows(observation, covers), observation.layers
        pairs = zip(layers, maps.layers, strict=True)
        wanted = (WindowMean.of(one.windows) if one.windows else tuple(row.queries) for one, row in pairs)
        plan = MapPlan(maps, tuple(wanted))
        check_traced(model, images, plan, layers)
    except (WatchError, UsageError) as error:
        raise ConfigError(f"The maps of this model cannot be exported: {error} {WAY_OUT}") from error
    return plan


def check_layers(observation: Observation) -> None:
    """Raise `UsageError` for attention that is not one row over the whole image for each layer."""
    recording, read_from = observation.attention, observation.read_from
    if read_from.of_each is not None or read_from.of_patches is not None:
        raise UsageError("From which tokens its answer is read differs from image to image.")
    if read_from.beside or recording.not_of_answer:
        names = [recording.layers[number].name for number in read_from.beside] or [
            layer.name for layer in recording.of_answer
        ]
        raise UsageError(f"Its answer is read from several layers side by side, or not from all: {', '.join(names)}.")


def describe_rows(observation: Observation, covers: str) -> ArtifactMaps:
    """What is handed out of each layer. Raises `UsageError` or `WatchError` where a layer's tokens are not known."""
    recording, read_from = observation.attention, observation.read_from
    readouts = [readout_in(layer, recording.of_answer, read_from.tokens, read_from.among) for layer in recording.layers]
    notes = [read_from.note, further_use_note(recording.layers), *(f"Not shown: {one}." for one in recording.missed)]
    kinds = [(layer.num_heads, layer.tokens) for layer in recording.layers]
    layers = [
        layer_rows(recording, layer, readout, *place)
        for layer, readout, place in zip(recording.layers, readouts, in_outputs(kinds), strict=True)
    ]
    return ArtifactMaps(
        layers=layers,
        read_from=list(read_from.tokens),
        among=read_from.among,
        covers=covers,
        note=" ".join(filter(None, map(str.strip, notes))),
    )


def layer_rows(recording: Recording, layer: Layer, queries: Sequence[int], output: str, index: int) -> LayerRows:
    tokens, windows = layer.tokens, layer.windows is not None
    return LayerRows(
        name=recording.name_of(layer),
        output=output,
        index=index,
        reader=readout_name(layer, queries),
        queries=list(queries),
        num_queries=tokens.num_patches if windows else layer.num_queries,
        windows=windows,
        is_cross=layer.is_cross,
        heads=layer.num_heads,
        prefix=list(tokens.prefix),
        grid=tokens.grid,
        order=list(tokens.order),
    )


def watched_row(layer: Layer, queries: Sequence[int]) -> Float[Tensor, "b h n"]:
    """The row of a watched layer that a graph is to give."""
    row = query_row(layer, None, queries)
    return row if layer.windows is None else row / layer.tokens.num_patches


def check_traced(model: Classifier, images: Float[Tensor, "b c y x"], plan: MapPlan, layers: Sequence[Layer]) -> None:
    """Raise `UsageError` if other rows pass through the fused kernel than were watched."""
    with evaluating(model), torch.no_grad(), trace_rows(plan.wanted) as seen:
        model(images)
    if len(seen.rows) < len(layers):
        raise UsageError(
            f"{len(seen.rows)} of its {len(layers)} layers attend by F.scaled_dot_product_attention, and only of "
            "those the rows can be had while a model is traced. Let its layers call that function."
        )
    for found, layer, row in zip(seen.rows, layers, plan.maps.layers, strict=True):
        expected = watched_row(layer, row.queries)
        if found.shape != expected.shape or not torch.allclose(found, expected, atol=ROWS_APART):
            raise UsageError(f"The rows of {layer.name} are arranged in another way while the model is traced.")

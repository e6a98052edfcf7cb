"""One observation of a model, from which every explanation method draws its map.

`observe` runs the model once watched and once plainly, checks that both answers agree and that the watched rows
reproduce what the kernels returned, and measures from which tokens the prediction is read. A method is then a function
of the observation; several methods share one.

Axes:  b images   c channels   y x pixels   k classes   n tokens   l layers
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitral.base.answer import ScoredAnswer, scored_answer_of
from vitral.base.errors import ShapeError, UsageError, VitralError, WatchError
from vitral.base.feature_statistics import Distance
from vitral.base.modes import evaluating
from vitral.base.output import Output, find_output
from vitral.base.output_scale import scale_of
from vitral.explain.feature_maps import FeatureMap, module_maps, stream_maps
from vitral.explain.graph import Graph, recorded_gradients, recorded_pass, without_vmap
from vitral.explain.readout import Readout, find_readout, tail_recorded
from vitral.explain.target import target_classes
from vitral.recording.forward import (
    check_answer,
    check_finite,
    check_images,
    check_unchanged,
    class_scores,
    forward,
    model_output,
)
from vitral.recording.handed_out import HandsOutRows
from vitral.recording.indices import Grid, is_pair
from vitral.recording.intercept import TOLERANCE, NothingSeen, watch
from vitral.recording.layers import Layer, Recording
from vitral.recording.stability import check_stable
from vitral.store.image_features import recording_head_inputs, training_distances

Need = Literal["attention", "feature maps", "gradients"]
Check = Literal["full", "rows"]
Target = int | Sequence[int] | Tensor | None  # a class for all images, one per image, or the model's own predictions
ATTENTION: tuple[Need, ...] = ("attention",)


@dataclass(frozen=True)
class Observation:
    """What a model did with some images, in eval mode.

    model          the model itself, for methods that run it again (`run`)
    images         the images as the model takes them, (B, C, H, W)
    output         its answer, detached
    needs          what was recorded: "attention", "feature maps", "gradients"
    found_readout  the tokens from which the prediction is read, as measured or assumed

    `layers`, `feature_maps`, `logits` and the gradients raise what is wrong with them only when used: a CNN has no
    attention, and a model may score no classes.
    """

    model: nn.Module
    images: Float[Tensor, "b c y x"]
    output: Output
    needs: frozenset[Need]
    found_readout: Readout = field(default_factory=Readout)
    recording: Recording | None = None
    maps: tuple[FeatureMap, ...] = ()
    refusal: WatchError | None = None  # why there is no attention
    map_refusal: WatchError | None = None  # why there are no feature maps
    graph: Graph | None = None  # of the watched pass
    map_graph: Graph | None = None  # of the pass that gave the feature maps
    weights: tuple[tuple[int, int], ...] = ()  # `weights_of` the model then
    head_inputs: Float[np.ndarray, "b d"] | None = None  # what the head took, if a plain pass of all images was run

    @property
    def answer(self) -> Tensor:
        """What the model returned, of any shape."""
        return self.output.tensor

    @property
    def logits(self) -> Float[Tensor, "b k"]:
        """One score per class. Raises `UsageError` if the model scores no classes."""
        return class_scores(self.model, self.output)

    @property
    def layers(self) -> Sequence[Layer]:
        """The attention layers in the order they ran. Raises `WatchError` if there are none, or none is verified."""
        return self.attention.layers

    @property
    def attention(self) -> Recording:
        """What was seen of the model's attention. Raises `WatchError` if there is none, or it is not verified."""
        if self.recording is None:
            raise self.refusal or missing("attention")
        return self.recording

    @property
    def readout(self) -> tuple[int, ...]:
        """The tokens of the last attention from which the prediction is read; () if none are known."""
        return self.found_readout.tokens

    @property
    def read_from(self) -> Readout:
        """The readout of all images. Raises `UsageError` where they are read at different depths (early exits)."""
        if self.found_readout.refusal:
            raise UsageError(self.found_readout.refusal)
        return self.found_readout

    @property
    def residual(self) -> float | None:
        """The largest residual of any layer; None without attention."""
        return None if self.recording is None else self.recording.residual

    @property
    def feature_maps(self) -> Sequence[FeatureMap]:
        """Feature maps from the first place in the model to the last, at least one. Raises `WatchError` for none."""
        if not self.maps:
            raise self.map_refusal or missing("feature maps")
        return self.maps

    def classes(self, target: Target) -> Int[Tensor, " b"]:
        """The class to explain for each image: the target, or the prediction. Raises `UsageError` if there is none."""
        return self.answer_kind.target(self.logits) if target is None else target_classes(self.logits, target)

    @property
    def answer_kind(self) -> ScoredAnswer:
        """What the outputs mean, by the model's record."""
        return scored_answer_of(self.model)

    @property
    def supports(self) -> str:
        """What positive relevance does, in captions."""
        return "raises the number" if self.answer_kind.per_output == "number" else "supports the class"

    @property
    def score(self) -> str:
        """What one output is called in captions: "the class's logit", its probability, or "the number"."""
        return "the number" if self.answer_kind.per_output == "number" else scale_of(self.logits).score

    @property
    def unit(self) -> str:
        return self.answer_kind.unit if self.answer_kind.per_output == "number" else scale_of(self.logits).unit

    def without_recordings(self) -> "Observation":
        """The answer alone, without what was recorded on its way, which takes most of the memory."""
        return replace(self, needs=frozenset(), recording=None, maps=(), graph=None, map_graph=None)

    @cached_property
    def training_distances(self) -> list[Distance] | None:
        """The distance of each image from the model's training images; None if these are unknown."""
        return training_distances(self.model, self.images, self.head_inputs)

    def run(self, images: Float[Tensor, "b c y x"]) -> Tensor:
        """What the model answers for other images, whatever their number: a forward pass in eval mode, no gradients.

        Raises `UsageError` if the model's weights were changed since it was observed, `WatchError` if it has no single
        answer for an image (`vitral.recording.stability`).
        """
        check_stable(self.model, self.images)
        if weights_of(self.model) != self.weights:  # answers of before and after would be mixed in one map
            name = type(self.model).__name__
            raise UsageError(f"The weights of {name} were changed after it was observed. Observe it again.")
        with evaluating(self.model), torch.no_grad():
            return model_output(self.model, images).detach()

    def layer_gradients(self, target: Target) -> dict[int, tuple[Tensor, ...]]:
        """∂y/∂(what each call of a layer returned), by the layer's number; y is the logit of each image's class.

        Layers that no gradient reaches are left out. Raises `WatchError` if it reaches none.
        """
        calls = [(number, call) for number, layer in enumerate(self.layers) for call in layer.calls]
        if not calls:
            self.classes(target)  # an error of the target comes first
            if any(isinstance(part, torch.jit.ScriptModule) for part in self.model.modules()):
                raise WatchError(
                    f"{type(self.model).__name__} was traced (torch.jit.trace), and the graph of a traced model does "
                    "not show where it attends, so a method that needs gradients has nothing to show. Explain the "
                    "module that was traced, or try attention or rollout."
                )
            raise WatchError(
                "No gradient is recorded where the model attends (it runs under no_grad, or detaches its tokens), "
                "so a method that needs gradients has nothing to show. Try attention or rollout."
            )
        found = self.differentiate(self.graph, target, [call.out for _, call in calls])
        gradients: dict[int, tuple[Tensor, ...]] = {}
        reached = {number for (number, _), gradient in zip(calls, found) if gradient is not None}
        for (number, call), gradient in zip(calls, found):
            if number in reached:  # a head that no gradient reaches has a gradient of zero
                own = torch.zeros_like(call.out) if gradient is None else gradient
                gradients[number] = (*gradients.get(number, ()), own)
        if not gradients:
            raise WatchError(
                "No gradient of the class score reaches the attention of any layer, so there is nothing to show. Try "
                "occlusion, which needs no gradients."
            )
        return gradients

    def map_gradients(self, target: Target) -> list[Tensor | None]:
        """∂y/∂(each feature map), None where no gradient reaches."""
        reached = [each.tensor for each in self.feature_maps if each.tensor.requires_grad]
        found = iter(self.differentiate(self.map_graph, target, reached)) if reached else iter(())
        return [next(found) if each.tensor.requires_grad else None for each in self.feature_maps]

    def image_gradient(self, target: Target) -> Float[Tensor, "b c y x"]:
        """∂y/∂x of each image's class. Raises `WatchError` if no gradient reaches the images."""
        if self.graph is None:
            raise missing("gradients")
        gradient = self.differentiate(self.graph, target, [self.graph.images])[0]
        if gradient is None:
            raise WatchError(
                "No gradient of the class score reaches the image, so there is nothing to show. Try occlusion, which "
                "needs no gradients."
            )
        return gradient

    def differentiate(self, graph: Graph | None, target: Target, tensors: Sequence[Tensor]) -> list[Tensor | None]:
        """∂y/∂tensor for tensors of a recorded pass, y being the logit of each image's class."""
        if graph is None:
            raise missing("gradients")
        check_stable(self.model, self.images, single_pass=True)  # the gradient of one image's score reaches no other
        return graph.differentiate(self.classes(target), tensors, type(self.model).__name__)

    def grid_of_attention(self) -> Grid | None:
        """The grid of the last layer whose tokens are known; None if there is none."""
        for layer in reversed(self.recording.layers if self.recording else []):
            with suppress(UsageError, WatchError):
                return layer.tokens.grid
        return None

    def patch_grid(self, grid: Grid | None = None) -> Grid:
        """Rows and columns on which to explain the model: those given, its own, or those of its last feature map.

        Raises `ShapeError` if the images do not divide into them, `UsageError` for what is not a grid.
        """
        own = getattr(self.model, "grid", None) if grid is None else grid
        # One image is enough to see the grid; an observation for occlusion alone has no maps.
        if own is None:
            alone = self if self.maps else observe(self.model, self.images[:1], ["feature maps"], "rows")
            own = (None if alone.maps else alone.grid_of_attention()) or alone.feature_maps[-1].grid
        if not is_pair(own) or min(own) < 1:
            raise UsageError(f"grid={own} is not a grid: give (rows, columns), each at least 1.")
        rows, columns = int(own[0]), int(own[1])
        height, width = self.images.shape[-2:]
        if height % rows or width % columns:
            raise ShapeError(
                f"Images of {height} x {width} pixels cannot be divided into {rows} x {columns} patches. "
                "Pass a grid that fits: grid=(rows, columns)."
            )
        return rows, columns


def observe(
    model: nn.Module,
    images: Float[Tensor, "b c y x"],
    needs: Collection[Need] = ATTENTION,
    check: Check = "full",
) -> Observation:
    """Run the model on images, as it takes them, and record what methods need.

    needs      "attention": q and k of every layer, and the readout tokens; "feature maps": what enters and leaves each
               block, or the maps of a CNN; "gradients": the graph from the images to the answer. None of them is one
               plain pass.
    check      "full": one watched and one plain pass, whose answers must agree. "rows": the watched pass alone, whose
               rows are verified all the same; the readout then costs a pass of the first image, and feature maps of a
               model without attention a second one.

    Raises what running the model raises, `WatchError` if watching changed the answer, `UsageError` for unknown needs.

    >>> import torch, vitral
    >>> model = vitral.create("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=3)
    >>> observation = observe(model, torch.randn(2, 3, 32, 32))
    >>> len(observation.layers), observation.readout  # the prediction is read from token 0, CLS
    (2, (0,))
    """
    requested: Any = [needs] if isinstance(needs, str) or not isinstance(needs, Collection) else needs
    for name, values, known in (("needs", requested, get_args(Need)), ("check", [check], get_args(Check))):
        if unknown := [value for value in values if value not in known]:
            raise UsageError(f"{name}: {unknown[0]!r} is not supported; it takes {', '.join(map(repr, known))}.")
    wanted: frozenset[Need] = frozenset(requested)
    check_images(images)
    with evaluating(model), without_vmap(model):
        check_finite(images)
        if wanted <= {"gradients"}:
            output, graph = recorded_pass(model, images, "gradients" in wanted)
            check_answer(output.tensor)
            return Observation(model, images, output, wanted, graph=graph, weights=weights_of(model))
        if isinstance(model, HandsOutRows) and "attention" in wanted:
            return handed_out_observation(model, images, wanted)
        return watched_observation(model, images, wanted, check)


def handed_out_observation(model: Any, images: Tensor, needs: frozenset[Need]) -> Observation:
    """A plain pass, and what a model hands out that cannot be watched, as an exported one."""
    output, _ = recorded_pass(model, images, "gradients" in needs)
    no_maps = WatchError("It is an exported model, which has no feature maps. Use occlusion, or the original model.")
    weights = weights_of(model)
    try:
        given = model.hand_out(images)
    except WatchError as error:  # kept: methods that need no attention still work
        return Observation(model, images, output, needs, refusal=error, map_refusal=no_maps, weights=weights)
    check_same(output, find_output(model, given.answer, len(images)))
    read_from = Readout(given.readout, given.among, note=f" {given.note}" if given.note else "")
    return Observation(model, images, output, needs, read_from, given.recording, map_refusal=no_maps, weights=weights)


def watched_observation(model: nn.Module, images: Tensor, needs: frozenset[Need], check: Check) -> Observation:
    """The watched pass, then the plain one; see `observe`."""
    wants_attention, wants_maps, wants_graph = (need in needs for need in get_args(Need))
    observer = watch(model, "all" if wants_attention else [0], stream=True if wants_maps else "blocks")
    output: Output | None = None
    graph: Graph | None = None
    recording: Recording | None = None
    refusal: WatchError | None = None
    try:
        with observer as seen:
            output, graph = recorded_pass(model, images, wants_graph)
        recording = seen
    except WatchError as error:  # kept: methods that need no attention still work
        refusal = error
    places = observer.stream_places() if recording is not None and wants_maps | wants_attention else ()
    maps = tuple(stream_maps(recording, places)) if recording is not None and wants_maps else ()
    map_graph, map_refusal = graph, refusal
    read_from, head_inputs = Readout(), None

    # A CNN, or a model whose blocks pass on nothing with known places: its maps are those that its modules return.
    by_modules = wants_maps and not maps and (refusal is None or isinstance(refusal, NothingSeen))
    if by_modules and observer.roles.follows_content:
        map_refusal = WatchError(
            f"{type(model).__name__} has no feature maps of the whole image: which part of it the tokens stand for "
            "depends on what the image shows, as in a model that crops each image. Crop the image first, as the model "
            "does. occlusion, input_gradient and integrated_gradients need no maps: specify grid=(rows, columns)."
        )
        by_modules = False
    if by_modules:
        with module_maps(model, images, attends=recording is not None) as found:
            plain, map_graph = recorded_pass(model, images, wants_graph)
        check_same(output, plain)
        maps = tuple(found)
        why = "no attention" if recording is None else "no block returns patches whose places are known"
        map_refusal = WatchError(
            f"{type(model).__name__} cannot be explained by maps: {why}, and no module returns a feature map (B, D, "
            "rows, columns) whose places are those of the image. A model that mirrors, shifts or crops its images has "
            "none: change the images before the model. occlusion, input_gradient and integrated_gradients need none: "
            "specify grid=(rows, columns)."
        )
    # The plain pass also measures the readout: only what comes after the last block is recorded, nothing is changed.
    if recording is not None and (wants_attention or (check == "full" and not by_modules)):
        assert observer.stream is not None
        with tail_recorded(observer.stream.last_block) as left, recording_head_inputs(model) as inputs:
            plain = forward(model, images if check == "full" else images[:1])
        if check == "full":
            check_same(output, plain)
            head_inputs = inputs.array(len(images))
        record = partial(recorded_attention, model, images[: len(plain.tensor)], recording, graph)
        read_from = find_readout(recording, left, plain.tensor, places, record)
    if output is None:  # the watched pass was refused on its way
        output, graph = recorded_pass(model, images, wants_graph)
    recorded = (recording, maps, refusal, map_refusal, graph, map_graph)
    return Observation(model, images, output, needs, read_from, *recorded, weights_of(model), head_inputs)


def recorded_attention(
    model: nn.Module, images: Tensor, recording: Recording, graph: Graph | None
) -> tuple[Recording, Tensor]:
    """What was seen in a pass that recorded gradients, and its answer: those of `graph` if it has one, else of another
    pass; an empty recording where none can be recorded."""
    if graph is not None:
        return recording, graph.answer
    with suppress(VitralError), recorded_gradients(), watch(model, [0]) as seen:
        leaf = images.detach().clone()
        answer = model_output(model, leaf.requires_grad_() if leaf.is_floating_point() else leaf)
        return seen, answer
    return Recording(), images


def weights_of(model: nn.Module) -> tuple[tuple[int, int], ...]:
    """Where each parameter lies, and how often it was changed in place, which PyTorch does not count in inference."""
    return tuple(
        (parameter.data_ptr(), 0 if parameter.is_inference() else parameter._version)
        for parameter in model.parameters()
    )


def check_same(watched: Output | None, plain: Output) -> None:
    """Raise `WatchError` if watching changed the answer."""
    if watched is not None:
        check_unchanged(watched.tensor, plain.tensor, TOLERANCE[plain.tensor.dtype])


def missing(need: Need) -> UsageError:
    """The error for what an observation was not asked to record."""
    return UsageError(
        f"This observation did not record {need}. Request it: observe(model, images, needs=[..., {need!r}])."
    )

"""Relevance methods on a page of the explorer: the maps of those that answer for the model, and what the others say."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import VitralError
from vitral.base.lookup import check_name, find, names
from vitral.explain.entry import explain_observed
from vitral.explain.maps import Maps
from vitral.explain.observation import Need, Observation, observe
from vitral.explain.trials import SMALL_GRID, Trials
from vitral.explain.trust import Trust, check_orders
from vitral.explorer.relevance import RelevanceMap
from vitral.store.classifier import Classifier

# Each takes a pass or two of the model. Occlusion takes one per patch, integrated gradients one per step.
QUICK = ("attention_gradient", "chefer", "grad_cam", "input_gradient", "rollout")
# PyTorch's own too, as of a model that has no gradients: its attention is shown all the same.
REFUSALS = (VitralError, RuntimeError)
NO_METHODS = "none"
NOT_TESTED = (
    "Not tested on this page: on so many patches, a test takes hundreds of passes of the model. vitral explain tests "
    "single methods, vitral explore --orders 99 all of them."
)
A_REGION = "Of a segmentation model a region is explained: vitral explain MODEL IMAGE --region X,Y."


def chosen_methods(methods: Sequence[str] | None) -> tuple[str, ...]:
    """The methods of a page: those requested, none for `none`, by default the quick ones.

    Raises `UnknownName` for a method that does not exist.
    """
    if not methods:
        return QUICK
    if list(methods) == [NO_METHODS]:
        return ()
    for method in methods:
        check_name(method, [*names("explain.methods"), NO_METHODS], "method")
    return tuple(dict.fromkeys(method for method in methods if method != NO_METHODS))


def relevance_maps(
    model: Classifier, images: Float[Tensor, "1 c y x"], methods: Sequence[str], orders: int | None
) -> tuple[tuple[RelevanceMap, ...], dict[str, str]]:
    """The maps of one image with their tests, and for each method that refuses the reason.

    `orders` is the number of random orders that each map is compared with; by default maps on at most `SMALL_GRID`
    patches are tested as `vitral explain` tests them, and others are not: on a large grid a test takes hundreds of
    passes of the model.
    """
    check_orders(orders)
    if not methods:
        return (), {}
    if model.record.task == "segmentation":
        return (), dict.fromkeys(methods, A_REGION)
    needs: set[Need] = {"feature maps"}  # the test looks for outlier tokens in them
    for method in methods:
        needs |= find("explain.methods", method, "method").needs
    try:
        observation = observe(model, images, needs)
    except REFUSALS as error:
        return (), dict.fromkeys(methods, str(error))
    found: list[Maps] = []
    refused: dict[str, str] = {}
    for method in methods:
        try:
            found.append(explain_observed(find("explain.methods", method, "method"), observation))
        except REFUSALS as error:
            refused[method] = str(error)
    tests = tests_of(observation, found, orders)
    return tuple(relevance_map(maps, test) for maps, test in zip(found, tests)), refused


def tests_of(observation: Observation, found: Sequence[Maps], orders: int | None) -> list[Trust]:
    """The test of each map, with the number of orders that fits the grid if none is requested."""
    if orders is None and any(maps.grid[0] * maps.grid[1] > SMALL_GRID for maps in found):
        orders = 0
    with torch.no_grad():
        return [test for (test,) in Trials(observation, orders).trust_together(found)]


def relevance_map(maps: Maps, test: Trust) -> RelevanceMap:
    """A method's map of the one image that it was made of."""
    verdict = str(test.verdict)
    tested = NOT_TESTED if verdict == "not tested" else test.sentence
    return RelevanceMap(
        maps.method,
        maps.merged[0],
        maps.unit,
        maps.class_names[0] if maps.class_names else "",
        maps.caption_of(0) + (f" It is the map of {maps.which}." if maps.which else ""),
        tested,
        verdict,
    )

"""How far to trust one image's map: does it find what the model's score depends on better than chance, and how much of
it lies on outlier tokens?

The score is the one that is explained (`Answer.score`): the probability of one class of many, the logit of one of
several classes, or a predicted number. Patches are covered one after another, the map's highest first, as in
`deletion`, and the score is averaged on the way; then the same in random orders. With n of them, of which k do at least
as well, p = (1 + k) / (1 + n) (Phipson & Smyth 2010, "Permutation P-values Should Never Be Zero"). Several maps of an
image are corrected together (Holm 1979). One image may be too little evidence: a map that does not pass may still show
something.

Axes:  b images   k classes   o orders   s steps   g patches   gy gx rows, columns of patches
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitral.base.answer import Answer, answer_for, answer_of
from vitral.base.errors import ShapeError, UsageError
from vitral.base.numerics import cpu_computes_in_bfloat16
from vitral.base.p_values import holm
from vitral.base.record import Task
from vitral.explain.covering import (
    FILL,
    MOST_STEPS,
    covered_pixels,
    patches_covered,
    patches_covered_in_doublings,
)
from vitral.explain.maps import Maps, class_name
from vitral.explain.metric import is_constant
from vitral.explain.observation import Observation, observe
from vitral.explain.outlier_tokens import is_outlier
from vitral.recording.indices import Grid
from vitral.recording.stability import instability
from vitral.store.image_features import training_distances

SMALL_GRID = 64  # patches: on larger grids models are slow, so there are fewer orders and steps
ORDERS, FEWER_ORDERS = 100, 39  # random orders with which a map's own is compared, at least
FEWER_STEPS = 9
MANY_PARAMETERS, MANY_PIXELS = 5_000_000, 128**2  # from which on bfloat16 is faster, where the processor has it
FALSE_POSITIVES = 0.05  # share of images of which a noise map may be called better than chance, and as many worse
LEAST = 0.01  # of probability: what covering patches can hardly lower
PIXELS = 2**21  # run through the model at a time

NO_TEST = "No test was run, because no random orders were requested (orders = 0)."

Verdict = Literal[
    "better than chance",
    "worse than chance",
    "inconclusive for a single image",
    "too few orders",
    "cannot be tested",
    "not tested",
]


@dataclass(frozen=True)
class Trust:
    """The test of one image's map.

    area         the mean score as patches are covered, highest first
    by_chance    the same for each random order
    on_outliers  the share of the map on outlier tokens
    label        the class or number; `which` is the map that was tested, of several
    untested     why the map could not be tested, in a sentence
    task         the model's, which says what the score is
    unlike       a few words for an image that is unlike the training images
    together     how many maps of the image were tested together
    corrected    the p-values of doing better and of doing worse after Holm's correction over them; None for a map alone
    difference   how far scores in bfloat16 are from float32 on the image with no patch covered; None if in float32
    """

    area: float
    by_chance: tuple[float, ...]
    on_outliers: float
    label: str
    which: str = ""
    untested: str = ""
    task: Task = "one class"
    unlike: str = ""
    together: int = 1
    corrected: tuple[float, float] | None = None
    difference: float | None = None

    @property
    def answer(self) -> Answer:
        return answer_for(self.task)

    @property
    def score(self) -> str:
        """What the score is called: "the probability of cat"."""
        return self.answer.score_name(self.label)

    @property
    def tied(self) -> float:
        """Areas that differ by less are ties."""
        return self.answer.rounding(self.area)

    @property
    def as_good(self) -> int:
        """How many random orders do as well as the map or better, ties counted."""
        border = self.area + self.tied
        return sum(area <= border for area in self.by_chance)

    @property
    def as_bad(self) -> int:
        """How many random orders do as badly as the map or worse, ties counted."""
        border = self.area - self.tied
        return sum(area >= border for area in self.by_chance)

    @property
    def p(self) -> float:
        """How often a map of noise does as well; not a number for a map that could not be tested."""
        return float("nan") if self.untested else (1 + self.as_good) / (1 + len(self.by_chance))

    @property
    def p_worse(self) -> float:
        """How often a map of noise does as badly; not a number for a map that could not be tested."""
        return float("nan") if self.untested else (1 + self.as_bad) / (1 + len(self.by_chance))

    @property
    def p_corrected(self) -> float:
        """`p` after the correction for the maps tested together, by which the verdict is decided."""
        return self.corrected[0] if self.corrected else self.p

    @property
    def p_worse_corrected(self) -> float:
        """`p_worse` after the correction for the maps tested together."""
        return self.corrected[1] if self.corrected else self.p_worse

    @property
    def too_few_orders(self) -> bool:
        """Whether no map could be better or worse than chance, however few orders do as well."""
        return not self.untested and len(self.by_chance) < least_orders(self.together)

    @property
    def verdict(self) -> Verdict:
        """The verdict for one image; on at most `FALSE_POSITIVES` of images a noise map is better, on as many worse."""
        if self.untested:
            return "not tested" if self.untested == NO_TEST else "cannot be tested"
        if self.too_few_orders:
            return "too few orders"
        border = FALSE_POSITIVES + 1e-9  # 20 / 400 may be rounded upwards
        if self.p_corrected <= border:
            return "better than chance"
        # The other tail has a test of its own: a map that hides what matters is worse than noise, not inconclusive.
        return "worse than chance" if self.p_worse_corrected <= border else "inconclusive for a single image"

    @property
    def better_than_chance(self) -> bool:
        return self.verdict == "better than chance"

    @property
    def sentence(self) -> str:
        """The test in words, for a caption."""
        if self.untested:
            return self.untested + self.outlier_note + self.unlike_note
        return (
            f"Tested{self.which and f' ({self.which})'}: with the map's highest patches covered first, {self.score} "
            f"averages {self.answer.show_score(self.area)}; with {len(self.by_chance)} random orders it averages "
            f"{self.answer.show_score(min(self.by_chance))} to {self.answer.show_score(max(self.by_chance))}, "
            f"{self.conclusion}{self.precision_note}{self.outlier_note}{self.unlike_note}"
        )

    @property
    def unlike_note(self) -> str:
        """A sentence for an image that is unlike the training images, whose answer may mean nothing."""
        return f" The model answers for an image {self.unlike}." if self.unlike else ""

    @property
    def outlier_note(self) -> str:
        """A sentence on the share of the map on outlier tokens, if it is not negligible."""
        if self.on_outliers <= 0.005:
            return ""
        return (
            f" {self.on_outliers:.0%} of the map lies on patch tokens of unusually large norm, which may hold "
            "something other than the image content at their position."
        )

    @property
    def precision_note(self) -> str:
        """A sentence on the precision of the scores, if it is not that of the image."""
        if self.difference is None:
            return ""
        return (
            " The scores were computed in bfloat16; with no patch covered, they differ from float32 by at most "
            f"{self.difference:.1g}."
        )

    def p_text(self, p: float, corrected: float) -> str:
        """A p-value in words, with its correction if several maps were tested together."""
        if self.together == 1:
            return f"p = {p:.2f}"
        return f"p = {p:.2f}; {corrected:.2f} after correction, because {self.together} methods were tested together"

    @property
    def conclusion(self) -> str:
        patches = self.answer.evidence(self.label)
        as_low = f"as low or lower in {self.as_good} of the orders ({self.p_text(self.p, self.p_corrected)})"
        match self.verdict:
            case "better than chance":
                return f"{as_low}. So the map finds {patches} better than chance."
            case "worse than chance":
                as_high = f"as high or higher in {self.as_bad} of the orders"
                if self.together > 1:
                    as_high += f" ({self.p_text(self.p_worse, self.p_worse_corrected)})"
                return f"{as_high}. So the map finds {patches} worse than chance."
            case "too few orders":
                return f"{as_low}. {too_few_orders(len(self.by_chance), self.together)}"
            case _:
                return f"{as_low}. This single image is inconclusive on whether the map finds {patches}."


class Trials:
    """What a model answers while the patches of some images are covered, in the order of a map and in random ones.

    The random orders are drawn from the image itself, so an image has the same ones in any batch, and they are run once
    for all maps and classes. They cost `ORDERS` times up to `MOST_STEPS` - 1 forward passes per image, on grids of more
    than `SMALL_GRID` patches `FEWER_ORDERS` times `FEWER_STEPS` - 1; each map then costs one order more. Large models
    run in bfloat16 where the processor computes in it and the answer for the image stays the same.

    observation  needs "feature maps", in which outlier tokens are looked for; what it recorded is not kept
    orders       how many random orders; by default chosen by rule (`orders_for`), 0 for no test
    report       called with the number of random orders that were run of an image, and how many there will be

    Raises `UsageError` for what is not a number of orders.
    """

    def __init__(
        self,
        observation: Observation,
        orders: int | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
    ):
        check_orders(orders)
        self.orders, self.report = orders, report
        self.observation, self.images = observation.without_recordings(), observation.images
        self.chance: dict[tuple[int, Grid], Float[np.ndarray, "o k"]] = {}
        self.ends: dict[int, Float[np.ndarray, "2 k"]] = {}  # of each image: with no patch covered, and with all
        self.precisions: dict[int, torch.dtype] = {}
        self.differences: dict[int, float] = {}  # of each image that is run in bfloat16, from float32
        self.answer = answer_of(observation.model)
        # What is explained, and what a person reads, (B, K); None if the model scores no classes.
        self.scores = self.answer.score(observation.logits) if observation.output.scores_classes else None
        self.values = None if self.scores is None else self.answer.values(observation.logits.double()).cpu().numpy()
        self.outliers = outlier_patches(observation)
        self.distances = training_distances(observation.model, self.images)

    def trust(self, maps: Maps) -> list[Trust]:
        """One `Trust` per image, of `maps.merged`, for the class explained or the model's own answer.

        Raises `ShapeError` for maps of another number of images.
        """
        return self.trust_together([maps])[0]

    def trust_together(self, found: Sequence[Maps]) -> list[list[Trust]]:
        """Per method one `Trust` per image; the methods of an image are corrected together.

        Raises `ShapeError` for maps of another number of images.
        """
        for maps in found:
            if len(maps.values) != len(self.images):
                raise ShapeError(f"The maps show {len(maps.values)} images, but {len(self.images)} images were passed.")
        unlike = [distance.note for distance in self.distances or ()] or [""] * len(self.images)
        by_image = [
            correct_together([replace(self.trust_one(maps, image, len(found)), unlike=note) for maps in found])
            for image, note in enumerate(unlike)
        ]
        return [[tests[method] for tests in by_image] for method in range(len(found))]

    def orders_for(self, grid: Grid, methods: int) -> int:
        """How many random orders test so many methods together: those requested, else as many as can decide.

        The smallest p-value of m methods after correction is m / (1 + orders), so from three methods on, a large grid
        has 20 orders more per method. All methods share them: 20 orders cost 160 forward passes, fewer than one map of
        occlusion on 14 x 14 patches (196). With fewer orders, no map could pass, so the others would be wasted.
        """
        if self.orders is not None:
            return self.orders
        return max(ORDERS if grid[0] * grid[1] <= SMALL_GRID else FEWER_ORDERS, least_orders(methods))

    def trust_one(self, maps: Maps, image: int, methods: int = 1) -> Trust:
        """The test of one image's map among those of so many methods, or why it cannot be tested."""
        values = maps.merged[image]
        share = outlier_share(self.outliers, image, values)
        if self.orders == 0:
            return untested(share, "", NO_TEST)
        if self.scores is None:
            return untested(share, "", "The model scores no classes, so the map cannot be tested against a prediction.")
        if unstable := str(instability(self.observation.model, self.images)):
            return untested(share, "", f"Not tested: {unstable}")
        known = self.scores[image]
        index = maps.targets[image] if maps.targets else int(self.answer.target(self.observation.logits)[image])
        label, before = class_name(self.observation.model, index), float(known[index])
        # What cannot be tested is refused by cause: no claim, no ranking, nothing to lower, nothing to compare.
        if not maps.of_answer:
            return untested(
                share, label, f"Not tested: what {maps.reader} attends to is not a claim about the prediction."
            )
        if is_constant(values[None])[0]:
            return untested(share, label, "The map ranks no patch, so it cannot be tested.")
        # A probability near zero cannot fall; a logit or a number can, wherever it stands.
        if self.answer.task == "one class" and before < LEAST:
            return untested(
                share,
                label,
                f"Cannot be tested on this image: the probability of {label} is {before:.1%}, which covering patches "
                "can hardly lower.",
            )
        chance = self.by_chance(image, maps.grid, self.orders_for(maps.grid, methods))[:, index]
        noise = image_noise(self.images[image], 1, values.size)[0]  # breaks ties between equal patches
        area = self.areas(image, np.lexsort((noise, -values.ravel())), maps.grid)[index]
        if not np.isfinite([area, *chance]).all():  # comparisons with NaN are false, which would read as better
            return untested(
                share,
                label,
                "Cannot be tested on this image: the scores are NaN or infinite once some patches are covered.",
            )
        # The order of covering makes no difference, so no order can be better; too few orders may be equal by accident.
        if len(chance) >= least_orders(1) and np.ptp(chance) < self.answer.least(chance):
            return untested(
                share,
                label,
                f"Cannot be tested on this image: whichever patches are covered first, {self.answer.score_name(label)} "
                f"averages {self.answer.show_score(chance.mean())}.",
            )
        return Trust(
            float(area),
            tuple(map(float, chance)),
            share,
            label,
            maps.which,
            task=self.answer.task,
            difference=self.differences.get(image),
        )

    def by_chance(self, image: int, grid: Grid, orders: int) -> Float[np.ndarray, "o k"]:
        """The areas of so many random orders; each is run when it is first needed."""
        known = list(self.chance.get((image, grid), ()))
        # The first row of noise breaks ties. Whatever their number, the orders of an image begin with the same ones.
        noise = image_noise(self.images[image], 1 + orders, grid[0] * grid[1])[1:]
        for order in noise[len(known) :].argsort(axis=1):
            self.report(len(known), orders)
            known.append(self.areas(image, order, grid))
        self.chance[image, grid] = np.stack(known)
        return self.chance[image, grid][:orders]

    def areas(self, image: int, order: Int[np.ndarray, " g"], grid: Grid) -> Float[np.ndarray, " k"]:
        """The area under each score over the share of patches covered in an order, from none to all."""
        patches = len(order)
        if patches <= SMALL_GRID:
            counts = patches_covered(patches, min(patches, MOST_STEPS))
        else:
            counts = patches_covered_in_doublings(patches, FEWER_STEPS)
        if image not in self.ends:  # the same for every order
            self.ends[image] = self.scores_covered(image, np.array([[False] * patches, [True] * patches]), grid)
        inner = self.scores_covered(image, order.argsort() < counts[1:-1, None], grid)
        first, last = self.ends[image]
        return np.trapezoid(np.stack([first, *inner, last]), counts / patches, axis=0)

    def scores_covered(self, image: int, covered: Bool[np.ndarray, "s g"], grid: Grid) -> Float[np.ndarray, "s k"]:
        """The scores of an image with some patches covered."""
        size = self.images.shape[-2:]
        at_once = max(1, PIXELS // (size[0] * size[1]))
        found = []
        for start in range(0, len(covered), at_once):
            hidden = covered_pixels(covered[start : start + at_once], grid, size, self.images.device)
            found.append(self.scores_of(torch.where(hidden, FILL, self.images[image]), self.precision(image)))
        return np.concatenate(found) if found else np.empty((0, 1))

    def scores_of(self, images: Float[Tensor, "b c y x"], precision: torch.dtype) -> Float[np.ndarray, "b k"]:
        """The scores of images, computed in a precision."""
        with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
            return self.answer.score(self.observation.run(images))

    def precision(self, image: int) -> torch.dtype:
        """bfloat16 for a large model, if the processor computes in it and the image's scores stay what they are."""
        if image not in self.precisions:
            self.precisions[image] = self.images.dtype
            size = sum(parameter.numel() for parameter in self.observation.model.parameters())
            is_large = size >= MANY_PARAMETERS and self.images[0, 0].numel() >= MANY_PIXELS
            is_large &= self.images.dtype == torch.float32
            if is_large and self.images.device.type == "cpu" and cpu_computes_in_bfloat16():
                exact = self.scores_of(self.images[image : image + 1], torch.float32)
                rounded = self.scores_of(self.images[image : image + 1], torch.bfloat16)
                difference = float(np.abs(exact - rounded).max())
                if difference < LEAST:
                    self.precisions[image] = torch.bfloat16
                    self.differences[image] = difference
        return self.precisions[image]


def trust(model: nn.Module, images: Float[Tensor, "b c y x"], maps: Maps, orders: int | None = None) -> list[Trust]:
    """One `Trust` per image, of `maps.merged`, for the class explained or the model's own answer.

    For several maps of the same images, `Trials(observation).trust_together` runs the random orders only once, and
    corrects for their number. Costs what `Trials` states; `orders` is the number of random orders. Raises `ShapeError`
    for maps of another number of images, `UsageError` for what is not a number of orders.
    """
    check_orders(orders)
    return Trials(observe(model, images, ["feature maps"]), orders).trust(maps)


def tested(model: nn.Module, images: Float[Tensor, "b c y x"], maps: Maps, orders: int | None = None) -> Maps:
    """The same maps, whose captions state how far to trust each; as costly as `trust`, and with the same `orders`."""
    return with_trust(maps, trust(model, images, maps, orders))


def check_orders(orders: int | None) -> None:
    """Raise `UsageError` for what is not a number of random orders."""
    whole = isinstance(orders, int | np.integer) and not isinstance(orders, bool)
    if orders is not None and (not whole or orders < 0):
        raise UsageError(
            f"orders={orders!r} is not a number of random orders: give a whole number, {least_orders(1)} or more for "
            "one method, or 0 for no test; leave it out for the default."
        )


def least_orders(methods: int) -> int:
    """How many random orders can decide so many methods tested together: p is at least methods / (1 + orders).

    >>> least_orders(1), least_orders(3)
    (19, 59)
    """
    return round(methods / FALSE_POSITIVES) - 1


def too_few_orders(orders: int, methods: int) -> str:
    """The sentence for a test that could not decide, with the number of orders that could."""
    several = f" {methods} methods tested together" if methods > 1 else ""
    return f"Too few orders: {orders} cannot decide{several}; {least_orders(methods)} would do."


def correct_together(tests: Sequence[Trust]) -> list[Trust]:
    """The tests of several maps of an image, corrected by Holm's method over those that could be tested.

    The tests share their random orders, so they depend on each other, which Holm's method allows.
    """
    places = [place for place, one in enumerate(tests) if not one.untested]
    better = holm([tests[place].p for place in places])
    worse = holm([tests[place].p_worse for place in places])
    corrected = list(tests)
    if len(places) > 1:
        for place, *both in zip(places, better, worse):
            corrected[place] = replace(tests[place], together=len(places), corrected=(both[0], both[1]))
    return corrected


def with_trust(maps: Maps, tests: list[Trust]) -> Maps:
    """The same maps with the tests of each image's map."""
    sentences = tuple(one.sentence for one in tests)
    return replace(maps, tested=sentences, verdicts=tuple(str(one.verdict) for one in tests))


def untested(share: float, label: str, reason: str) -> Trust:
    return Trust(float("nan"), (), share, label, untested=reason)


def image_noise(image: Float[Tensor, "c y x"], count: int, patches: int) -> Float[np.ndarray, "o g"]:
    """Noise for so many orders, seeded by the image's content."""
    content = np.ascontiguousarray(image.detach().cpu().float().numpy()).tobytes()
    digest = hashlib.sha256(b"random orders" + content).digest()
    return np.random.default_rng([*digest[:8]]).random((count, patches))


def outlier_patches(observation: Observation) -> Bool[np.ndarray, "b gy gx"] | None:
    """Which tokens that leave the last block are outliers; None in a model without tokens."""
    if not observation.maps or not observation.maps[-1].in_stream:
        return None  # the feature maps, if any, are those of modules
    patches = observation.maps[-1].patches
    outliers = is_outlier(patches.detach().flatten(2).mT)
    return rearrange(outliers, "b (gy gx) -> b gy gx", gy=patches.shape[2]).cpu().numpy()


def outlier_share(
    outliers: Bool[np.ndarray, "b gy gx"] | None, image: int, values: Float[np.ndarray, "gy gx"]
) -> float:
    """The share of the positive map on outlier tokens; 0 if these have another grid, or there are no tokens."""
    if outliers is None or outliers[image].shape != values.shape:
        return 0.0
    positive = values.clip(min=0)
    return float((positive * outliers[image]).sum() / max(positive.sum(), 1e-30))

"""The test of maps against chance: cover patches in the order of a map, and in random orders.

The score is the one that is explained (`Answer.score`): the probability of one class of many, the logit of one of
several classes, or a predicted number. The map's highest patch is covered, then its two highest, then about twice as
many each time, and the score is averaged over the share that is covered, as in `deletion`; then the same in random
orders. What the comparison says of a map is its `Trust`.

Axes:  b images   k classes   o orders   s steps   g patches   gy gx rows, columns of patches
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitral.base.answer import scored_answer_of
from vitral.base.errors import ShapeError
from vitral.base.numerics import cpu_computes_in_bfloat16
from vitral.base.output_scale import PROBABILITIES, scale_of
from vitral.explain.covering import (
    FILL,
    covered_pixels,
    patches_covered_in_doublings,
    patches_covered_in_doublings_and_halvings,
)
from vitral.explain.maps import Maps, class_name
from vitral.explain.metric import is_constant
from vitral.explain.observation import Observation, observe
from vitral.explain.outlier_tokens import is_outlier
from vitral.explain.trust import NO_TEST, Trust, check_orders, correct_together, least_orders, untested, with_trust
from vitral.recording.indices import Grid
from vitral.recording.stability import instability

SMALL_GRID = 64  # patches: on larger grids models are slow, so there are fewer orders
ORDERS, FEWER_ORDERS = 300, 39  # random orders with which a map's own is compared, at least
STEPS, FEWER_STEPS = 12, 9  # in which the patches are covered
MANY_PARAMETERS, MANY_PIXELS = 5_000_000, 128**2  # from which on bfloat16 is faster, where the processor has it
LEAST = 0.01  # of probability: what covering patches can hardly lower
PIXELS = 2**21  # run through the model at a time


class Trials:
    """What a model answers while the patches of some images are covered, in the order of a map and in random ones.

    The random orders are drawn from the image itself, so an image has the same ones in any batch, and they are run once
    for all maps and classes. They cost `ORDERS` times `STEPS` - 1 forward passes per image, on grids of more than
    `SMALL_GRID` patches `FEWER_ORDERS` times `FEWER_STEPS` - 1; each map then costs one order more. Large models run in
    bfloat16 where the processor computes in it and the answer for the image stays the same.

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
        self.answer = scored_answer_of(observation.model)
        # What is explained, and what a person reads, (B, K); None if the model scores no classes.
        has_scores = observation.output.scores_classes
        # A model that ends in a softmax is asked for its own probabilities, not for a softmax of them.
        self.are_probabilities = has_scores and scale_of(observation.logits) is PROBABILITIES
        self.scores = self.answer.score(self.as_logits(observation.logits)) if has_scores else None
        self.values = (
            self.answer.values(self.as_logits(observation.logits.double())).cpu().numpy() if has_scores else None
        )
        self.outliers = outlier_patches(observation)
        self.distances = observation.training_distances

    @property
    def images_at_once(self) -> int:
        """How many images run through the model at a time."""
        return max(1, PIXELS // self.images[0, 0].numel())

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
        area = self.areas(image, np.lexsort((noise, -values.ravel()))[None], maps.grid)[0, index]
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
        """The areas of so many random orders, which are run when they are first needed."""
        known = self.chance.get((image, grid))
        # The first row of noise breaks ties. Whatever their number, the orders of an image begin with the same ones.
        noise = image_noise(self.images[image], 1 + orders, grid[0] * grid[1])[1:]
        at_once = max(1, self.images_at_once // STEPS)
        for start in range(0 if known is None else len(known), orders, at_once):
            self.report(start, orders)
            areas = self.areas(image, noise[start : start + at_once].argsort(axis=1), grid)
            known = areas if known is None else np.concatenate([known, areas])
        assert known is not None  # a test without orders has ended before
        self.chance[image, grid] = known
        return known[:orders]

    def areas(self, image: int, orders: Int[np.ndarray, "o g"], grid: Grid) -> Float[np.ndarray, "o k"]:
        """The area under each score over the share of patches covered in each order, from none to all."""
        patches = orders.shape[1]
        counts = steps_of(patches)
        if image not in self.ends:  # the same for every order
            self.ends[image] = self.scores_covered(image, np.array([[False] * patches, [True] * patches]), grid)
        covered = orders.argsort(axis=1)[:, None] < counts[1:-1, None]
        # On a small grid, orders cover the same patches again and again.
        different, which = np.unique(rearrange(covered, "o s g -> (o s) g"), axis=0, return_inverse=True)
        inner = self.scores_covered(image, different, grid)[which.ravel()]
        inner = rearrange(inner, "(o s) k -> s o k", o=len(orders))
        first, last = (np.broadcast_to(end, inner.shape[1:]) for end in self.ends[image])
        return np.trapezoid(np.stack([first, *inner, last]), counts / patches, axis=0)

    def scores_covered(self, image: int, covered: Bool[np.ndarray, "s g"], grid: Grid) -> Float[np.ndarray, "s k"]:
        """The scores of an image with some patches covered."""
        size, at_once = self.images.shape[-2:], self.images_at_once
        found = []
        for start in range(0, len(covered), at_once):
            hidden = covered_pixels(covered[start : start + at_once], grid, size, self.images.device)
            found.append(self.scores_of(torch.where(hidden, FILL, self.images[image]), self.precision(image)))
        return np.concatenate(found) if found else np.empty((0, 1))

    def scores_of(self, images: Float[Tensor, "b c y x"], precision: torch.dtype) -> Float[np.ndarray, "b k"]:
        """The scores of images, computed in a precision."""
        with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
            return self.answer.score(self.as_logits(self.observation.run(images)))

    def as_logits(self, outputs: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """The outputs, or the logarithm of probabilities, whose softmax they are."""
        is_softmax = self.are_probabilities and self.answer.task == "one class"
        return outputs.double().clamp_min(1e-30).log() if is_softmax else outputs

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


def steps_of(patches: int) -> Int[np.ndarray, " s1"]:
    """How many patches are covered at each step. On a large grid the last steps, which cost as much, are left out."""
    if patches <= SMALL_GRID:
        return patches_covered_in_doublings_and_halvings(patches, STEPS // 2)
    return patches_covered_in_doublings(patches, FEWER_STEPS)


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

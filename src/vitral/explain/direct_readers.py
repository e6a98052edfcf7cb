"""Which tokens an answer is read from, and which it depends on only through a normalisation over all tokens.

A LayerNorm over tokens and width, a GroupNorm, an InstanceNorm or a division by the norm of all tokens divides each
token by statistics of all of them. An answer that is read from CLS then depends on every token. At a token j that is
not read, with g the answer's gradient and x the tokens, in each group of channels that shares its statistics:

    g_j = α + β x_j        with the same numbers α, β for all such tokens
    Σ over all tokens and the group's channels of g ∘ x = 0        since the scale of the tokens does not matter

A mean or an attention pool of tokens with small weights does not have both, so these remain readers.

Axes:  b images   n tokens   d width   w weaker tokens   g groups of channels
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

GAP = 2.0  # how much stronger the gradient is at the weakest token that is read than at the strongest that is not
MOST_GAPS = 4  # gaps that are tried, the widest first
FORM = 0.02  # of the gradient, which the form above may leave unexplained
INVARIANCE = 0.005  # of the sum of its parts, which the sum that must be 0 may be: norms add an ε to the variance
LEAST_EQUATIONS = 6  # more than there are unknowns, two for each group


def directly_read(gradient: Float[Tensor, "b n d"], tokens: Float[Tensor, "b n d"]) -> tuple[Bool[Tensor, "b n"], bool]:
    """The tokens that each image's answer is read from, and whether that is settled for all images.

    It is not settled where the scale or the mean of the tokens does not matter and their gradients differ in strength,
    but no normalisation explains the weaker ones: all are then taken to be read.
    """
    tolerance = max(INVARIANCE, 8 * torch.finfo(gradient.dtype).eps)
    reached, settled = (gradient != 0).any(dim=2), True
    if not is_normalised(gradient, tokens):
        return reached, True
    is_scaled = all(scale_does_not_matter(g, x, 1, tolerance) for _, g, x in with_several(gradient, tokens))
    for image, g, x in with_several(gradient, tokens):
        strength = g.norm(dim=1)
        leaks = (weak for weak in weaker_tokens(strength) if is_scaled and is_normalisation(g, x, weak, tolerance))
        found = max(leaks, key=lambda weak: int(weak.sum()), default=None)
        if found is not None:
            reached[image] &= ~found
        elif strength.max() >= GAP * strength[strength > 0].min() and not is_mean(g, strength, tolerance):
            settled = False
    return reached, settled


def is_normalised(gradient: Float[Tensor, "b n d"], tokens: Float[Tensor, "b n d"]) -> bool:
    """Whether the answer stays when all tokens are scaled together, or the same vector is added to all of them.

    These are properties of the model; most have neither, which the first image shows.
    """
    tolerance = max(INVARIANCE, 8 * torch.finfo(gradient.dtype).eps)
    if next(with_several(gradient, tokens), None) is None:
        return False
    return all(scale_does_not_matter(g, x, 1, tolerance) for _, g, x in with_several(gradient, tokens)) or all(
        mean_does_not_matter(g, tolerance) for _, g, _ in with_several(gradient, tokens)
    )


def scale_and_mean_matter(gradient: Float[Tensor, "b n d"], tokens: Float[Tensor, "b n d"]) -> bool:
    """Whether the answer changes when all tokens are scaled together, and when the same vector is added to them."""
    terms = gradient.double() * tokens.double()
    scaled = terms.sum(dim=(1, 2)).abs() > INVARIANCE * terms.abs().sum(dim=(1, 2))
    return bool(scaled.all()) and not any(mean_does_not_matter(g.double(), INVARIANCE) for g in gradient)


def with_several(
    gradient: Float[Tensor, "b n d"], tokens: Float[Tensor, "b n d"]
) -> Iterator[tuple[int, Float[Tensor, "n d"], Float[Tensor, "n d"]]]:
    """The images whose answer depends on several tokens: number, gradient and tokens, in double precision."""
    for image in ((gradient != 0).any(dim=2).sum(dim=1) > 1).nonzero()[:, 0].tolist():
        yield image, gradient[image].detach().double(), tokens[image].detach().double()


def weaker_tokens(strength: Float[Tensor, " n"]) -> Iterator[Bool[Tensor, " n"]]:
    """The tokens below each of the widest gaps of the gradient's strength that are wide enough."""
    ordered = strength[strength > 0].sort().values
    ratios = ordered[1:] / ordered[:-1]
    for number in ratios.argsort(descending=True)[:MOST_GAPS].tolist():
        if ratios[number] >= GAP:
            yield (strength > 0) & (strength <= ordered[number])


def is_normalisation(
    gradient: Float[Tensor, "n d"], tokens: Float[Tensor, "n d"], weak: Bool[Tensor, " n"], tolerance: float
) -> bool:
    """Whether the gradient at the weak tokens is that of a normalisation over all tokens, in groups of any size."""
    width = gradient.shape[1]
    for groups in (number for number in range(1, width + 1) if width % number == 0):
        equations = int(weak.sum()) * width // groups
        enough = equations > 2 and groups * (equations - 2) >= LEAST_EQUATIONS
        if enough and has_form(gradient[weak], tokens[weak], groups):
            return scale_does_not_matter(gradient, tokens, groups, tolerance)
    return False


def has_form(gradient: Float[Tensor, "w d"], tokens: Float[Tensor, "w d"], groups: int) -> bool:
    """Whether g = α + β x, with an α and a β for each group of channels, fitted by least squares."""
    g, x = (part.unflatten(1, (groups, -1)).transpose(0, 1).flatten(1) for part in (gradient, tokens))  # (g, w·c)
    x, centred = x - x.mean(dim=1, keepdim=True), g - g.mean(dim=1, keepdim=True)
    slope = (centred * x).sum(1, keepdim=True) / x.square().sum(1, keepdim=True).clamp_min(1e-30)
    return bool((centred - slope * x).norm() <= FORM * g.norm())


def scale_does_not_matter(
    gradient: Float[Tensor, "n d"], tokens: Float[Tensor, "n d"], groups: int, tolerance: float
) -> bool:
    """Whether the answer stays when all tokens are scaled together, in each group of channels.

    After a norm of each token alone it stays, too, since every token's own part is 0; then this is false.
    """
    terms = (gradient * tokens).unflatten(1, (groups, -1))
    parts = terms.sum(dim=2)  # (n, g)
    size = parts.abs().sum(dim=0)
    counts = size > 1e-3 * terms.abs().sum(dim=(0, 2))  # what rounding leaves of parts that are 0 is no evidence
    return bool(counts.any()) and bool((parts.sum(dim=0).abs() <= tolerance * size)[counts].all())


def mean_does_not_matter(gradient: Float[Tensor, "n d"], tolerance: float) -> bool:
    """Whether the answer stays when the same vector is added to all tokens."""
    return bool(gradient.any()) and bool(gradient.sum(dim=0).norm() <= tolerance * gradient.abs().sum(dim=0).norm())


def is_mean(gradient: Float[Tensor, "n d"], strength: Float[Tensor, " n"], tolerance: float) -> bool:
    """Whether all weaker tokens have the same gradient, as those of a mean that is read beside CLS.

    Not where that mean is subtracted from all tokens.
    """
    weak = next(weaker_tokens(strength), None)
    if weak is None or weak.sum() < 2 or mean_does_not_matter(gradient, tolerance):
        return False
    own = gradient[weak]
    return bool((own - own.mean(dim=0)).norm() <= FORM * own.norm())

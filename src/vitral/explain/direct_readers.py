"""Which tokens an answer is read from, and which it depends on only through a normalisation over all tokens.

A LayerNorm over tokens and width, a GroupNorm, an InstanceNorm or a division by the norm of all tokens divides each
token by statistics of all of them. An answer that is read from CLS then depends on every token. At a token j that is
not read, with g the answer's gradient and x the tokens, in each group of channels that shares its statistics:

    g_j = α + β x_j        with the same numbers α, β for all such tokens
    Σ over all tokens and the group's channels of g ∘ x = 0        since the scale of the tokens does not matter

A mean or an attention pool of tokens with small weights does not have both, so these remain readers.

Axes:  b images   n tokens   d width   w tokens not read   g groups of channels   c channels of a group
"""

from collections.abc import Iterator

from jaxtyping import Bool, Float
from torch import Tensor

GAP = 2.0  # how much stronger the gradient is at the weakest token that is read than at the strongest that is not
MOST_GAPS = 4  # gaps that are tried, the widest first
FORM = 0.02  # of the gradient, which the form above may leave unexplained
INVARIANCE = 0.05  # of the sum of its parts, which the sum that must be 0 may be: norms add an ε to the variance
LEAST_EQUATIONS = 6  # for the two unknowns of each group


def directly_read(gradient: Float[Tensor, "b n d"], tokens: Float[Tensor, "b n d"]) -> tuple[Bool[Tensor, "b n"], bool]:
    """The tokens that each image's answer is read from, and whether that is settled for all images.

    It is not settled where the gradients have a gap and their scale does not matter, but no normalisation explains the
    weaker ones: all are then taken to be read.
    """
    reached = (gradient != 0).any(dim=2)
    settled = True
    for image in range(len(gradient)):
        own, x = gradient[image].detach().double(), tokens[image].detach().double()
        if not scale_does_not_matter(own, x, 1):
            continue
        cuts = list(weaker_tokens(own.norm(dim=1)))
        leaks = (weak for weak in cuts if is_normalisation(own, x, weak))
        found = max(leaks, key=lambda weak: int(weak.sum()), default=None)
        if found is not None:
            reached[image] &= ~found
        elif cuts:
            settled = False
    return reached, settled


def weaker_tokens(strength: Float[Tensor, " n"]) -> Iterator[Bool[Tensor, " n"]]:
    """The tokens below each of the widest gaps of the gradient's strength that are wide enough."""
    ordered = strength[strength > 0].sort().values
    ratios = ordered[1:] / ordered[:-1]
    for number in ratios.argsort(descending=True)[:MOST_GAPS].tolist():
        if ratios[number] >= GAP:
            yield (strength > 0) & (strength <= ordered[number])


def is_normalisation(gradient: Float[Tensor, "n d"], tokens: Float[Tensor, "n d"], weak: Bool[Tensor, " n"]) -> bool:
    """Whether the gradient at the weak tokens is that of a normalisation over all tokens, in groups of any size."""
    width = gradient.shape[1]
    for groups in (number for number in range(1, width + 1) if width % number == 0):
        enough = int(weak.sum()) * width // groups >= LEAST_EQUATIONS
        if (
            enough
            and has_form(gradient[weak], tokens[weak], groups)
            and scale_does_not_matter(gradient, tokens, groups)
        ):
            return True
    return False


def has_form(gradient: Float[Tensor, "w d"], tokens: Float[Tensor, "w d"], groups: int) -> bool:
    """Whether g = α + β x, with an α and a β for each group of channels, fitted by least squares."""
    g, x = (part.unflatten(1, (groups, -1)).transpose(0, 1).flatten(1) for part in (gradient, tokens))  # (g, w·c)
    x, centred = x - x.mean(dim=1, keepdim=True), g - g.mean(dim=1, keepdim=True)
    slope = (centred * x).sum(1, keepdim=True) / x.square().sum(1, keepdim=True).clamp_min(1e-30)
    return bool((centred - slope * x).norm() <= FORM * g.norm())


def scale_does_not_matter(gradient: Float[Tensor, "n d"], tokens: Float[Tensor, "n d"], groups: int) -> bool:
    """Whether the answer stays when all tokens are scaled together, in each group of channels.

    After a norm of each token alone it stays, too, since every token's own part is 0; then this is false.
    """
    parts = (gradient * tokens).unflatten(1, (groups, -1)).sum(dim=2)  # (n, g)
    # What rounding leaves of parts that are 0 adds up to nothing in particular, and is no evidence.
    terms = (gradient * tokens).abs().unflatten(1, (groups, -1)).sum(dim=(0, 2))
    size = parts.abs().sum(dim=0)
    counts = size > 1e-3 * terms
    return bool(counts.any()) and bool((parts.sum(dim=0).abs() <= INVARIANCE * size)[counts].all())

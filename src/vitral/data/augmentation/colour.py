"""`colour`: permutes red, green and blue at random, and replaces each by its complement half of the time.

For images whose colours carry no information: a set drawn in uniform colours has the same distribution afterwards and
is effectively 48 times as large (6 orders, 8 sign patterns).
"""

import torch

from vitral.data.augment import Images, Masks


def colour(images: Images, masks: Masks | None, generator: torch.Generator) -> tuple[Images, Masks | None]:
    """The complement of a value is 255 minus the value; masks stay."""
    count, channels = images.shape[:2]
    order = torch.rand(count, channels, generator=generator).argsort(dim=1).to(images.device)
    sign = torch.randint(0, 2, (count, channels, 1, 1), generator=generator)
    complement = (255 * (1 - sign)).to(images)  # each bit is inverted, or none
    return (images ^ complement)[torch.arange(count, device=images.device)[:, None], order], masks

"""Heads for two tokens: the distilled model's, and one for twice the width.

Axes:  b batch   d width   k classes
"""

from jaxtyping import Float
from torch import Tensor, nn


class DistilledHead(nn.Module):
    """One head for the class token and one for the distillation token; the logits are their mean.

    Touvron et al. 2021, "DeiT", §4. `both` gives the two separately: labels train the first, a teacher the second.
    """

    def __init__(self, embed_dim: int, num_classes: int):
        super().__init__()
        self.head = nn.Linear(embed_dim, num_classes)
        self.head_dist = nn.Linear(embed_dim, num_classes)

    def init_weights(self) -> None:
        for linear in (self.head, self.head_dist):
            nn.init.zeros_(linear.weight)

    def both(self, x: Float[Tensor, "b two d"]) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        return self.head(x[:, 0]), self.head_dist(x[:, 1])

    def forward(self, x: Float[Tensor, "b two d"]) -> Float[Tensor, "b k"]:
        logits, distilled = self.both(x)
        return (logits + distilled) / 2


class WideHead(nn.Linear):
    """A linear head for twice the width, which `CLSAndMeanPool` gives."""

    def __init__(self, embed_dim: int, num_classes: int):
        super().__init__(2 * embed_dim, num_classes)

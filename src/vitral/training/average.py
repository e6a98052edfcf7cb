"""A moving average of a model's weights, which is often better than the weights of any one step.

Polyak & Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging"; of networks, Tarvainen & Valpola 2017,
"Mean teachers are better role models", §2.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn


class MovingAverage:
    """`model` has after each step `decay` of its own weights and the rest of those that were trained.

    At first it has less of its own, (1 + step) / (10 + step), so that the untrained weights are soon forgotten. The
    statistics of batch norms are averaged as well; counters are copied.
    """

    def __init__(self, trained: nn.Module, decay: float):
        self.model, self.decay = deepcopy(trained), decay

    @torch.no_grad()
    def update(self, trained: nn.Module, step: int) -> None:
        """Take in the weights after this step, counted from 1."""
        kept = min(self.decay, step / (9 + step))
        # Each tensor once: one that two layers share has two names.
        pairs = zip(self.model.state_dict(keep_vars=True).values(), trained.state_dict().values())
        for own, other in {id(own): (own, other) for own, other in pairs}.values():
            if own.is_floating_point():
                own.lerp_(other, 1 - kept)
            else:
                own.copy_(other)

    @property
    def state(self) -> dict[str, Tensor]:
        return dict(self.model.state_dict())

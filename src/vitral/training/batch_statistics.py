"""Batch norm whose statistics are those of the whole batch, wherever its images are.

Ioffe & Szegedy 2015, "Batch Normalization", algorithm 1. PyTorch's `SyncBatchNorm` does this on GPUs only; this one
computes the same by collectives that every backend has, so that the tests on CPUs test what runs on GPUs.

Axes:  p images of this process's part   c channels
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes; the loss depends on a process's tensor by the sums that all have."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def sum_of_all(own: Tensor) -> Tensor:
    found: Tensor = SumOfAll.apply(own)
    return found


class SharedBatchNorm(_BatchNorm):
    """A batch norm over the batches of all processes; in eval mode an ordinary one, which needs nobody."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes."""

    # A collective in a compiled graph would have to be met by the same graph in every process.
    @torch.compiler.disable
    def forward(self, input: Float[Tensor, "p c *rest"]) -> Float[Tensor, "p c *rest"]:
        if not self.training:
            return super().forward(input)
        x = input.float()  # as PyTorch's own does under autocast
        axes = [axis for axis in range(x.ndim) if axis != 1]
        own = x.new_tensor([x.numel() / x.shape[1]])
        total = sum_of_all(torch.cat([x.sum(axes), own]))
        count = total[-1].detach()
        mean = total[:-1] / count
        shape = [1, -1] + [1] * (x.ndim - 2)
        # In two passes: E[x²] - E[x]² loses the digits of a small variance beside a large mean.
        var = sum_of_all((x - mean.view(shape)).square().sum(axes)) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            self.count_statistics(mean.detach(), var.detach() * count / (count - 1).clamp(min=1))
        normal = (x - mean.view(shape)) * (var + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(input.dtype)

    @torch.no_grad()
    def count_statistics(self, mean: Float[Tensor, " c"], var: Float[Tensor, " c"]) -> None:
        """Move the running statistics towards those of a batch; without momentum they are means over all batches."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(var.to(self.running_var), share)


def share_batch_norms(model: nn.Module) -> None:
    """Replace each batch norm by a shared one with the same tensors, under the same names."""
    made: dict[int, SharedBatchNorm] = {}
    for name, part in list(model.named_modules(remove_duplicate=False)):
        if type(part) not in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            continue
        if id(part) not in made:
            made[id(part)] = shared = SharedBatchNorm(0, part.eps, part.momentum, affine=False)
            shared.num_features, shared.affine = part.num_features, part.affine
            shared.track_running_stats = part.track_running_stats
            shared._parameters, shared._buffers = part._parameters, part._buffers
            shared.train(part.training)
        owner, _, own = name.rpartition(".")
        setattr(model.get_submodule(owner), own, made[id(part)])

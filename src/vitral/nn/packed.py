"""Inference on a CPU by oneDNN: weights laid out once, where MKL lays them out for each call; GELU in the same pass."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.nn.mlp import MLP


class PackedLinear(nn.Linear):
    """A linear map that keeps its weight as oneDNN reads it too: of use while that is its weight, and frozen."""

    def pack(self) -> "PackedLinear":
        weight = self.weight.data
        self.packed = (self.weight, torch.ops.mkldnn._reorder_linear_weight(weight)) if plain(weight) else None
        return self

    def forward(self, x: Float[Tensor, "*b i"], gelu: bool = False) -> Float[Tensor, "*b o"]:
        if self.packed and plain(x) and x.shape[-1:] == self.weight.shape[1:] and only_numbers():
            weight, packed = self.packed
            if weight is self.weight and not weight.requires_grad:
                then, how = ("gelu", "none") if gelu else ("none", "")
                return torch.ops.mkldnn._linear_pointwise(x, packed, self.bias, then, [], how)
        y = super().forward(x)
        return F.gelu(y) if gelu else y

    def _apply(self, *args: Any, **kwargs: Any) -> "PackedLinear":
        return super()._apply(*args, **kwargs).pack()

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.pack()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "packed"}  # which cannot be copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.pack()


class PackedMLP(MLP):
    """The lecture's MLP, its GELU a part of its first map."""

    def forward(self, x: Float[Tensor, "b *n d"]) -> Float[Tensor, "b *n d"]:
        return self.fc2(self.fc1(x, gelu=True))


def plain(x: Tensor) -> bool:
    """Numbers that oneDNN takes as they are."""
    return type(x) is Tensor and x.dtype is torch.float32 and x.device.type == "cpu" and x.layout is torch.strided


def only_numbers() -> bool:
    """No gradient, program, other type, transform or counter is asked for, and oneDNN is not turned off."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    seen = torch._C._functorch.peek_interpreter_stack() is not None or torch._C._len_torch_dispatch_stack() > 0
    forward_gradient = torch.autograd.forward_ad._current_level >= 0
    return torch._C._get_mkldnn_enabled() and not (seen or forward_gradient or torch.is_autocast_enabled("cpu"))


@torch.inference_mode(False)
@torch.no_grad()
def packed(model: nn.Module) -> nn.Module:
    """A snapshot of any model for inference on a CPU: a copy with frozen weights of its own, packed once.

    It does not follow the model: train that, and pack again. Where the model has exactly an `nn.Linear` or Vitral's
    `MLP`, of float32 and with nothing added, the copy has oneDNN's, which works under `torch.no_grad()` and
    `inference_mode()` only. Raises `ConfigError` for a model that is training, cannot be copied or has no such map.
    """
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise ConfigError(f"packed takes a model, an nn.Module, and this is of type {name}.")
    if not torch.backends.mkldnn.is_available():
        raise ConfigError("This PyTorch was built without oneDNN, so there is nothing to pack for.")
    if model.training:
        raise ConfigError("packed is for inference, and the model is training: call model.eval() first.")
    try:
        found: Any = deepcopy(model).requires_grad_(False)
    except Exception as error:  # whatever its parts raise
        raise ConfigError(f"This {name} cannot be copied, so it cannot be packed: {error}") from error
    for part in found.modules():
        if as_made(part, nn.Linear):
            part.__class__ = PackedLinear
            part.pack()
    for part in found.modules():
        if as_made(part, MLP) and all(type(map_) is PackedLinear for map_ in part.children()):
            part.__class__ = PackedMLP
    if not any(type(part) is PackedLinear for part in found.modules()):
        raise ConfigError(f"{name} has no nn.Linear of float32 on a CPU with nothing added: nothing can be packed.")
    return found


def as_made(part: nn.Module, kind: type[nn.Linear | MLP]) -> bool:
    """Whether it is exactly of this type, with no hook, parameter or part that a new one has not, but for plain marks.

    transformers marks what it has filled with a `True`, which no map reads.
    """
    if type(part) is not kind or not all(plain(p.data) and p.numel() for p in part.parameters()):
        return False
    with torch.device("meta"):
        own, new = vars(part), vars(kind(1, 1))
    marks = all(isinstance(own[name], bool | int | float | str | None) for name in own.keys() - new.keys())
    return marks and all(list(own[n]) == list(v) for n, v in new.items() if isinstance(v, dict))

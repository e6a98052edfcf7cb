"""CPU inference with oneDNN: weights are reordered once, where MKL reorders them in each call; GELU is fused.

In bfloat16, weights are converted once, where autocast converts them in each call. That needs nothing but PyTorch's
public interfaces; its private operators for packed weights are about a tenth faster (docs/log.md).
"""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.nn.mlp import MLP


class PackedLinear(nn.Linear):
    """A linear layer that also keeps its weight in oneDNN's layout, and uses that while the weight is frozen."""

    def pack(self) -> "PackedLinear":
        weight = self.weight.data
        self.packed = (self.weight, torch.ops.mkldnn._reorder_linear_weight(weight)) if plain(weight) else None
        return self

    def forward(self, x: Float[Tensor, "*b i"], gelu: bool = False) -> Float[Tensor, "*b o"]:
        if self.packed and plain(x) and x.shape[-1:] == self.weight.shape[1:] and is_plain_inference():
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
    """An MLP whose first layer computes the GELU too."""

    def forward(self, x: Float[Tensor, "b *n d"]) -> Float[Tensor, "b *n d"]:
        return self.fc2(self.fc1(x, gelu=True))


def plain(x: Tensor) -> bool:
    """Whether oneDNN can use the tensor without converting it."""
    return type(x) is Tensor and x.dtype is torch.float32 and x.device.type == "cpu" and x.layout is torch.strided


def is_plain_inference() -> bool:
    """Whether nothing but values is needed: no gradient, compiled program, autocast, transform or dispatch mode.

    oneDNN's operators below have no gradient and no meta implementation, so any of these must take the ordinary path.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    observed = torch._C._functorch.peek_interpreter_stack() is not None or torch._C._len_torch_dispatch_stack() > 0
    forward_gradient = torch.autograd.forward_ad._current_level >= 0
    return torch._C._get_mkldnn_enabled() and not (observed or forward_gradient or torch.is_autocast_enabled("cpu"))


@torch.inference_mode(False)
@torch.no_grad()
def packed(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A snapshot of any model for inference on a CPU: a copy with frozen weights in oneDNN's layout.

    It does not follow the model: after more training, pack again. Each part that is exactly an `nn.Linear` or Vitral's
    `MLP`, in float32 and without hooks or additions, is replaced by oneDNN's, which is used under `torch.no_grad()` and
    `inference_mode()` only.

    With `dtype=torch.bfloat16` each part that is exactly an `nn.Linear` or `nn.Conv2d` gets its weights in bfloat16.
    The copy runs under `torch.autocast("cpu", torch.bfloat16)`, and gives there what the model gives there; norms and
    the residual stream stay in float32.

    Raises `ConfigError` for a model that is training, cannot be copied, or has no such part, and for another `dtype`.

    >>> import torch
    >>> from vitral import create
    >>> from vitral.nn.packed import packed
    >>> model = create("vit_nano_patch8_48", num_classes=3).eval()
    >>> with torch.no_grad():
    ...     packed(model)(torch.zeros(1, 3, 48, 48)).shape
    torch.Size([1, 3])
    """
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise ConfigError(f"packed takes an nn.Module, not a {name}.")
    if dtype not in (torch.float32, torch.bfloat16):
        raise ConfigError(f"packed takes dtype torch.float32 or torch.bfloat16, not {dtype}.")
    if not torch.backends.mkldnn.is_available():
        raise ConfigError("This PyTorch was built without oneDNN, so packed cannot speed anything up.")
    if model.training:
        raise ConfigError("packed is for inference, and the model is in training mode: call model.eval() first.")
    try:
        copy: Any = deepcopy(model).requires_grad_(False)
    except Exception as error:  # whatever its parts raise
        raise ConfigError(f"This {name} cannot be copied, so it cannot be packed: {error}") from error
    if dtype is torch.bfloat16:
        return in_bfloat16(copy, name)
    for part in copy.modules():
        if as_made(part, nn.Linear):
            part.__class__ = PackedLinear
            part.pack()
    for part in copy.modules():
        if as_made(part, MLP) and all(type(layer) is PackedLinear for layer in part.children()):
            part.__class__ = PackedMLP
    if not any(type(part) is PackedLinear for part in copy.modules()):
        raise ConfigError(f"{name} has no plain nn.Linear in float32 on a CPU: nothing can be packed.")
    return copy


def in_bfloat16(copy: nn.Module, name: str) -> nn.Module:
    """The same module with the weights of its linear and convolutional layers in bfloat16."""
    converted: dict[nn.Parameter, nn.Parameter] = {}
    for part in copy.modules():
        # A subclass may compute with its weight what autocast computes in float32.
        if type(part) not in (nn.Linear, nn.Conv2d):
            continue
        for key, parameter in part.named_parameters(recurse=False):
            if plain(parameter.data):
                # A new parameter: an embedding may share the old one, and autocast leaves that in float32.
                new = nn.Parameter(parameter.to(torch.bfloat16), requires_grad=False)
                setattr(part, key, converted.setdefault(parameter, new))
    if not converted:
        raise ConfigError(f"{name} has no plain nn.Linear or nn.Conv2d in float32 on a CPU: nothing can be packed.")
    return copy


def as_made(part: nn.Module, kind: type[nn.Linear | MLP]) -> bool:
    """Whether the part is exactly of this type and has no hook, parameter or sub-module that a new one lacks.

    Plain attributes are ignored: transformers marks initialized layers with a `True` that no layer uses.
    """
    if type(part) is not kind or not all(plain(p.data) and p.numel() for p in part.parameters()):
        return False
    with torch.device("meta"):
        own, new = vars(part), vars(kind(1, 1))
    marks = all(isinstance(own[name], bool | int | float | str | None) for name in own.keys() - new.keys())
    return marks and all(list(own[n]) == list(v) for n, v in new.items() if isinstance(v, dict))

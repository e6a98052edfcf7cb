"""Inference on a CPU by oneDNN, its weights laid out once as it reads them, GELU done as the numbers are written.

PyTorch's own linear maps go to MKL, which knows nothing of the next call: it lays a matrix out again each time.
"""

from copy import deepcopy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.nn.mlp import MLP


class PackedLinear(nn.Linear):
    """The same parameters and the same map; where nothing else than float32 on a CPU is asked for, oneDNN's.

    With gradients, while compiled, exported or traced, under autocast, on other devices and in other types it is plain.
    """

    def __init__(self, linear: nn.Linear, gelu: bool = False):
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.gelu = gelu
        self.packed_of: tuple[int, int] | None = None  # where the weight was, and how often it had changed

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or not plain(x) or not plain(self.weight.data):
            y = super().forward(x)
            return F.gelu(y) if self.gelu else y
        then, how = ("gelu", "none") if self.gelu else ("none", "")
        return torch.ops.mkldnn._linear_pointwise(x, self.laid_out(), self.bias, then, [], how)

    def laid_out(self) -> Tensor:
        """The weight as oneDNN reads it, made again when it has changed."""
        changes = 0 if self.weight.is_inference() else self.weight._version
        if self.packed_of != (now := (self.weight.data_ptr(), changes)):
            self.packed, self.packed_of = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach()), now
        return self.packed

    def __getstate__(self) -> dict:
        """Without the packed weight, which cannot be copied."""
        return {name: value for name, value in self.__dict__.items() if name != "packed"} | {"packed_of": None}


class PackedMLP(MLP):
    """The lecture's MLP, its GELU a part of its first map."""

    def __init__(self, mlp: MLP):
        nn.Module.__init__(self)
        self.fc1, self.fc2 = PackedLinear(mlp.fc1, gelu=True), PackedLinear(mlp.fc2)

    def forward(self, x: Float[Tensor, "b *n d"]) -> Float[Tensor, "b *n d"]:
        return self.fc2(self.fc1(x))


def plain(x: Tensor) -> bool:
    """Numbers that oneDNN takes as they are."""
    ordinary = type(x) is Tensor and x.dtype is torch.float32 and x.device.type == "cpu" and x.layout is torch.strided
    return ordinary and not torch.is_autocast_enabled("cpu") and not torch.jit.is_tracing()


def packed(model: nn.Module) -> nn.Module:
    """A copy for inference on a CPU, ours or anybody's, that shares the model's parameters and answers the same.

    Every `nn.Linear` runs through oneDNN. The packed weights take as much memory again. Raises `ConfigError` for a
    model that is training, is of another type or elsewhere, or has no linear map; or if PyTorch has no oneDNN.
    """
    if not torch.backends.mkldnn.is_available():
        raise ConfigError("This PyTorch was built without oneDNN, so there is nothing to pack for.")
    if model.training:
        raise ConfigError("packed is for inference, and the model is training: call model.eval() first.")
    if wrong := next(
        (f"{name} is {p.dtype} on {p.device}" for name, p in model.named_parameters() if not plain(p.data)), ""
    ):
        raise ConfigError(f"packed takes float32 on a CPU, and {wrong}: model.float().cpu() first.")
    shared: dict[int, Tensor] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    found = replaced(deepcopy(model, dict(shared)))
    if not any(isinstance(part, PackedLinear) for part in found.modules()):
        raise ConfigError(f"{type(model).__name__} has no nn.Linear, so there is nothing to pack.")
    return found


PACKED = {nn.Linear: PackedLinear, MLP: PackedMLP}


def replaced(module: nn.Module) -> nn.Module:
    """The module with its linear maps packed, at whatever depth; but what may compute otherwise, by a hook, stays."""
    parts = list(module.modules())
    if all(type(part) in PACKED and not (part._forward_hooks or part._forward_pre_hooks) for part in parts):
        return PACKED[type(module)](module)
    for name, child in module._modules.items():
        if child is not None:
            setattr(module, name, replaced(child))
    return module

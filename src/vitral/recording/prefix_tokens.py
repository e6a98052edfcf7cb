"""What the tokens are that are no patches: CLS, a distillation token, registers, by the model's learned parameters."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

BEGINNINGS = {
    "cls": ("cls_tok", "class_tok", "class_emb"),
    "distillation": ("dist",),
    "register": ("reg", "storage"),
}


@dataclass(frozen=True)
class LearnedToken:
    """A parameter of a model that holds `count` tokens of one role."""

    role: str
    module: nn.Module
    name: str
    count: int

    @property
    def names(self) -> tuple[str, ...]:
        """`cls`, or `register 0`, `register 1`, ..."""
        return tuple(self.role if self.role != "register" else f"register {index}" for index in range(self.count))

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Inside it the parameter has other values; the parameter itself is not touched."""
        before = self.module._parameters[self.name]
        assert before is not None
        noise = torch.randn(before.shape, generator=torch.Generator().manual_seed(3)).to(before)
        self.module._parameters[self.name] = nn.Parameter(before.detach() + noise, requires_grad=False)
        try:
            yield
        finally:
            self.module._parameters[self.name] = before


def learned_tokens(model: nn.Module) -> list[LearnedToken]:
    """The learned tokens of a model, by the names of its parameters, in the order that models use."""
    parameters = [
        (module, name, value)
        for module in model.modules()
        for name, value in module._parameters.items()
        if value is not None
    ]
    found = []
    for role, words in BEGINNINGS.items():
        for module, name, value in parameters:
            is_token = "token" in name or "class_emb" in name
            if name == role or (is_token and any(name.startswith(word) for word in words)):
                # A parameter of shape (D) holds one token, (n, D) or (1, n, D) hold n.
                found.append(LearnedToken(role, module, name, 1 if value.ndim == 1 else value.shape[-2]))
                break
    return found


def prefix_names(model: nn.Module, count: int) -> tuple[str, ...]:
    """Names of the tokens before the patches: from its parameters if these are as many, else numbers."""
    learned = [name for token in learned_tokens(model) for name in token.names]
    return tuple(learned) if len(learned) == count else names_stated(model, count)


def names_stated(model: nn.Module, count: int) -> tuple[str, ...]:
    """Numbers; the first token is CLS if the model itself states so many prefix tokens."""
    names = numbered(count)
    return ("cls", *names[1:]) if count and getattr(model, "num_prefix_tokens", None) == count else names


def numbered(count: int) -> tuple[str, ...]:
    """`prefix 0`, `prefix 1`, ...: tokens of which it is not known what they are."""
    return tuple(f"prefix {index}" for index in range(count))

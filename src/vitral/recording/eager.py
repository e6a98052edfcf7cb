"""Run compiled modules as the eager modules inside them, and scripted ones as written, while anyone watches."""

import sys
import threading
from typing import Any

import torch
from torch import nn


class Eager:
    """A compiled graph hides its attention, so watchers ask PyTorch for eager execution.

    PyTorch has one such switch for all threads: the first watcher turns it on, the last one turns it off. Where the
    compiler was never loaded nothing is compiled, and loading it just for the switch would take 70 MB.

    Of TorchScript it is the optimiser, a switch of each thread: it fails on whole numbers where functions are watched.
    """

    def __init__(self) -> None:
        self.lock, self.watchers = threading.Lock(), 0
        self.stance: Any = None
        self.script = threading.local()

    def __enter__(self) -> None:
        self.script.before = [*getattr(self.script, "before", []), torch._C._get_graph_executor_optimize()]
        torch._C._set_graph_executor_optimize(False)
        with self.lock:
            # flex_attention compiles itself when it is called, and would compile the watching, too.
            compiles = "torch._dynamo" in sys.modules or "torch.nn.attention.flex_attention" in sys.modules
            if self.stance is None and compiles:
                self.stance = torch.compiler.set_stance("force_eager")
            self.watchers += 1

    def __exit__(self, *error: Any) -> None:
        torch._C._set_graph_executor_optimize(self.script.before.pop())
        with self.lock:
            self.watchers -= 1
            if not self.watchers and self.stance is not None:
                self.stance.__exit__(*error)
                self.stance = None


EAGER = Eager()


def can_have_hooks(module: nn.Module) -> bool:
    """Whether PyTorch lets a module have hooks: one of `torch.jit.script` has none."""
    return not isinstance(module, torch.jit.RecursiveScriptModule)

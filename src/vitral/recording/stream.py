"""The residual stream: what enters each block of a model, and what leaves the last.

A block is found as the model runs: the innermost element of a list of modules that calls attention, or, in a model
without such lists, the outermost module that does so once. In most models the output of a block is the input of the
next. Where it is not (attention and MLP are elements of their own, and the sum is formed outside), the stream is still
the input of the next block, and after the last block the input of the next module; without one it is not known.
"""

import threading
from collections import Counter
from typing import Any

from torch import Tensor, nn

from vitral.recording.eager import can_have_hooks
from vitral.recording.operators import tensors_in


class Stream:
    """Records what enters and leaves the elements of a model's module lists, in this thread, until it is removed.

    With `keep_tensors=False` it only finds which of them are blocks.
    """

    def __init__(self, model: nn.Module, keep_tensors: bool = True):
        self.keep_tensors = keep_tensors
        self.model = model
        self.thread = threading.get_ident()
        self.running: list[nn.Module] = []
        self.inside: dict[int, list[nn.Module]] = {}  # the elements that run each call, by its bit, outermost first
        self.groups: dict[int, int] = {}  # the layer of each call: the bit of the first of its calls
        self.chains: list[list[nn.Module]] = []
        self.calls: dict[int, list[int]] = {}
        self.of_last_run: dict[int, list[int]] = {}  # those of the calls that a module made when it ran last
        self.entered: dict[int, Tensor] = {}
        self.left: dict[int, Tensor] = {}
        self.after: Tensor | None = None
        self.answer = 0  # the bits of the calls that the model's answer depends on; 0 if that is not known
        elements = [
            child for part in model.modules() if isinstance(part, nn.ModuleList | nn.Sequential) for child in part
        ]
        self.elements = {id(element) for element in elements}
        parts = [part for part in model.modules() if can_have_hooks(part)]
        self.hooks = [part.register_forward_pre_hook(self.enter, with_kwargs=True) for part in parts]
        # Always: a module that raised has left, too, or it would seem to run for ever.
        self.hooks += [part.register_forward_hook(self.leave, always_call=True) for part in parts]

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def enter(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        # Hooks are seen by all threads, and another one may run the same model meanwhile.
        if threading.get_ident() != self.thread:
            return
        given = first_tensor((*args, *kwargs.values()))
        outside = not any(id(part) in self.elements for part in (*self.running, module))
        kept = id(module) in self.elements or (outside and self.has_parts(module))
        if given is not None and not self.keep_tensors:  # an empty tensor marks that it was entered
            given = given.new_empty(0)
        # What the first module after the last block takes, for models that form the sum outside of their blocks.
        if given is not None and self.keep_tensors and self.inside and self.after is None and outside:
            # Of two models side by side, whose calls look like heads of one layer, no element makes both.
            last = self.last_block
            same = last is not None and given.shape == self.entered[id(last)].shape
            self.after = given if same else None
        self.running.append(module)
        if given is not None and kept:
            self.entered[id(module)], self.of_last_run[id(module)] = given, []

    def leave(self, module: nn.Module, args: tuple, output: Any) -> None:
        if threading.get_ident() != self.thread:
            return
        if self.running and self.running[-1] is module:
            self.running.pop()
        if self.keep_tensors and id(module) in self.entered and (given := first_tensor(output)) is not None:
            self.left[id(module)] = given

    def has_parts(self, module: nn.Module) -> bool:
        """Whether it is a part of the model that has parts of its own."""
        return module is not self.model and next(module.children(), None) is not None

    def attended(self, bit: int, group: int, queries_are_keys: bool) -> None:
        """The call of attention with this bit, of the layer whose first call is `group`, was made; the modules that are
        running may be a block."""
        self.groups[bit] = group
        for module in self.running:
            self.calls.setdefault(id(module), []).append(bit)
            self.of_last_run.setdefault(id(module), []).append(bit)
        entered = [module for module in self.running if id(module) in self.entered]
        inside = [module for module in entered if id(module) in self.elements]
        if inside:
            self.inside[bit] = inside
            self.after = None
        if queries_are_keys and not inside:
            self.chains.append(entered)

    def separate(self, bit: int) -> None:
        """The call with this bit is a layer of its own."""
        self.groups[bit] = bit

    def leave_out(self, bit: int) -> None:
        """The call with this bit is no layer."""
        del self.groups[bit]
        self.inside.pop(bit, None)
        for bits in (*self.calls.values(), *self.of_last_run.values()):
            bits[:] = [one for one in bits if one != bit]

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks that the answer depends on, in the order in which they called attention."""
        found = self.all_blocks
        return [block for block in found if any(bit & self.answer for bit in self.calls[id(block)])] or found

    @property
    def all_blocks(self) -> list[nn.Module]:
        """The blocks, also those of a decoder or a second model, whose results are another part of what is returned."""
        if self.inside:
            # Of a layer of several calls, as one of a module per head, the block is what makes them all.
            listed: dict[int, list[nn.Module]] = {}
            for bit, inside in self.inside.items():
                before = listed.get(self.groups[bit], inside)
                listed[self.groups[bit]] = [module for module in before if module in inside]
            # Of nested lists the innermost element is the block: a stage holds blocks.
            return list(dict.fromkeys(elements[-1] for elements in listed.values() if elements))
        # Without lists: of the modules around each call, the outermost one that contains no other call.
        calls = Counter(id(module) for chain in self.chains for module in chain)
        single = ((module for module in chain if calls[id(module)] == 1) for chain in self.chains)
        return [block for block in (next(modules, None) for modules in single) if block is not None]

    @property
    def last_block(self) -> nn.Module | None:
        """The last block, if blocks were found."""
        return self.blocks[-1] if self.blocks else None

    @property
    def next_layers(self) -> list[int]:
        """The number of the layer that comes after each of the `tokens`; for the last it may not exist.

        Known when the calls of the layers have been put together.
        """
        blocks = self.blocks
        if not blocks:
            return []
        numbers = {group: number for number, group in enumerate(dict.fromkeys(self.groups.values()))}
        # What entered a block is kept of its last run.
        bits = [self.of_last_run.get(id(block)) or self.calls[id(block)] for block in blocks]
        layers = [[numbers[self.groups[bit]] for bit in own] for own in bits]
        following = layers[-1][-1] + 1
        groups = list(numbers)
        # What leaves the last block enters no layer of a second model, on which the answer does not depend.
        if self.answer and following < len(groups) and not self.answer & groups[following]:
            following = len(groups)
        return [*(own[0] for own in layers), following]

    @property
    def tokens(self) -> list[Tensor]:
        """What enters each block, then what leaves the last; (B, N, D), or a map for models that keep one."""
        blocks = self.blocks
        if not blocks:
            return []
        entered = [self.entered[id(block)] for block in blocks]
        left = [self.left.get(id(block)) for block in blocks]
        # If no block's output is the next block's input, the sum is formed outside, and the last one is read after it:
        # what leaves the last block is then a part of the stream only. Of a single block nobody can tell.
        passed_on = any(output is entering for output, entering in zip(left, entered[1:])) or left[-1] is self.after
        leaving = left[-1] if passed_on or (len(blocks) == 1 and self.after is None) else self.after
        return entered if leaving is None else [*entered, leaving]


def first_tensor(values: Any) -> Tensor | None:
    """The first tensor among a call's arguments or results, in lists and mappings too."""
    return next(tensors_in(values), None)

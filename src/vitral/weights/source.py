"""What a file in `sources/` says of a format."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vitral.weights.architecture import Known, vit_of
from vitral.weights.reading import Contents
from vitral.weights.rules import Rule

Tensors = Mapping[str, Tensor]
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """How one publisher writes models of one family.

    `recognises` looks at names, shapes and the config; `rules` are those of a checkpoint with these tensors, theirs
    when reading and ours when writing; `known` is what the format or the config beside it tells and tensors do not.
    `dropped` are templates of theirs that a model does not need, each with the reason. `prepare` changes theirs before
    the rules and `finish` after them when writing, where names alone do not say it all. `sized` changes ours for what
    is known, such as the image size, and `settings` reads the architecture from them. `always` names those of our
    tensors that each of its models has.
    `unlike` says in words where the publisher's own code computes something else in a model of this `config`, and
    `told` what must be known of files that are written of it.
    """

    name: str
    recognises: Callable[[Contents], bool]
    rules: Callable[[Tensors], list[Rule]]
    known: Callable[[Contents], Known]
    family: str = "vit"
    dropped: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Tensors], Tensors] = lambda theirs: theirs
    finish: Callable[[Tensors], Tensors] = lambda theirs: theirs
    sized: Callable[[Tensors, Config], dict[str, Tensor]] = lambda ours, known: dict(ours)
    settings: Callable[[Tensors, Config], dict[str, Any]] = vit_of
    always: Callable[[Tensors], tuple[str, ...]] = lambda ours: ()
    unlike: Callable[[Config], tuple[str, ...]] = lambda config: ()
    told: Callable[[Config], tuple[str, ...]] = lambda config: ()
    writes: Callable[[Any], dict[str, str]] | None = None  # a model -> the text of files beside the weights

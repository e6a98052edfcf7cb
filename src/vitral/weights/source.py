"""`Source`: how one publisher writes models of one family. Each file in `sources/` holds one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import Rule
from vitral.weights.vit import vit_settings

Tensors = Mapping[str, Tensor]
Config = Mapping[str, Any]

IMAGENET: dict[str, Any] = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALVES: dict[str, Any] = dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@dataclass(frozen=True)
class CheckpointMetadata:
    """What a source states about a checkpoint besides its tensors.

    `settings` are sizes and parts of the model. `pixels` are the arguments of `Preprocessing` that `config.json`
    states; `preprocessing`, those of the format for what no file states, and `preprocessing_words` says whose they are.
    `assumed` lists, in words, what else was taken for granted. `resampling` is the publisher's way to fit positions to
    another grid. `stated` are settings from a config that the tensors show as well, and that must agree with them.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    pixels: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    preprocessing_words: str = ""
    classes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    resampling: str = "timm"
    stated: dict[str, Any] = field(default_factory=dict)


def fixed_metadata(
    preprocessing: dict[str, Any], words: str, *assumed: str, resampling: str = "timm"
) -> Callable[[Checkpoint], CheckpointMetadata]:
    """The `metadata` of a format without a config: the same for every checkpoint in it."""
    found = CheckpointMetadata({}, {}, preprocessing, words, assumed=assumed, resampling=resampling)
    return lambda checkpoint: found


@dataclass(frozen=True)
class Source:
    """One publisher's format for models of one family ("vit" or "swin").

    Reading, in this order:
        `marks`            endings of tensor names; a file without any of them is not in this format
        `absent`           keys that the config beside such a file never has
        `recognises`       decides by names, shapes and the config
        `metadata`         what the format or the config states and the tensors do not show
        `prepare`          changes their tensors before the rules, where renaming is not enough
        `rules`            names and layouts, for a checkpoint with these tensors (theirs or ours)
        `dropped`          templates of tensors that the model does not need -> the reason
        `complete`         changes our tensors for what is stated, such as the image size
        `settings`         reads the architecture from our tensors
        `known_discrepancies`  where the publisher's code computes something else for a model of this config, in words

    Writing:
        `rules` backwards, then `finish` on their tensors
        `required`         names of our tensors that every model in this format has
        `config_files`     a model -> the text of each file beside the weights; None if nothing is written
        `export_notes`     what to know about files written for a model of this config, in words
    """

    name: str
    marks: tuple[str, ...]
    recognises: Callable[[Checkpoint], bool]
    rules: Callable[[Tensors], list[Rule]]
    metadata: Callable[[Checkpoint], CheckpointMetadata]
    family: str = "vit"
    absent: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Tensors], Tensors] = lambda theirs: theirs
    finish: Callable[[Tensors], Tensors] = lambda theirs: theirs
    complete: Callable[[Tensors, Config], dict[str, Tensor]] = lambda ours, given: dict(ours)
    settings: Callable[[Tensors, Config], dict[str, Any]] = vit_settings
    required: Callable[[Tensors], tuple[str, ...]] = lambda ours: ()
    known_discrepancies: Callable[[Config], tuple[str, ...]] = lambda config: ()
    export_notes: Callable[[Config], tuple[str, ...]] = lambda config: ()
    config_files: Callable[[Any], dict[str, str]] | None = None

    def may_match(self, checkpoint: Checkpoint) -> bool:
        """Whether names and config may be of this format: cheap, so that most sources need not look closer."""
        has_mark = any(name.endswith(self.marks) for name in checkpoint.tensors)
        return has_mark and not any(key in checkpoint.config for key in self.absent)

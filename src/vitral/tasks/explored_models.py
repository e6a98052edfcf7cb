"""The models that one page of the explorer shows: one, or two beside each other."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from vitral.base.errors import UsageError, VitralError
from vitral.base.record import attach_record
from vitral.explain.untrained_twin import untrained_twin
from vitral.explorer.payload import ExploredImage
from vitral.store.classifier import Classifier
from vitral.tasks.inputs import model_name, open_model
from vitral.tasks.progress import Progress
from vitral.weights.artifact import ArtifactModel
from vitral.weights.spec import parse_checkpoint_spec

UNTRAINED = "untrained"  # what --beside calls the model itself with new weights
SEED = 0  # for these weights


@dataclass(frozen=True)
class ExploredModel:
    """A model and what its page calls it; `note` says in a sentence what it is, where the name does not."""

    name: str
    model: Classifier
    note: str = ""


def open_models(
    model: str | Path | nn.Module, beside: str | Path | nn.Module | None, code: str | None, progress: Progress
) -> tuple[ExploredModel, ...]:
    """The model of a page, and the one beside it if there is one: `untrained` is the same with new weights.

    Raises what `open_model` raises, and `UsageError` for an exported model, or where a file is called `untrained` too.
    """
    first = ExploredModel(model_name(model), open_seen(model, code, progress))
    if beside is None:
        return (first,)
    if beside == UNTRAINED:
        if Path(UNTRAINED).exists():
            raise UsageError(
                f"--beside {UNTRAINED} is the model itself with new weights, and there is a file of this name too. For "
                f"the file, write ./{UNTRAINED}; for new weights, run this in another folder."
            )
        name = short_name(first.name) if short_name(first.name) != UNTRAINED else first.name
        note = f"{name} is {first.name}." if name != first.name else ""
        return ExploredModel(name, first.model, note), untrained(first)
    is_run = not isinstance(beside, nn.Module) and parse_checkpoint_spec(beside).kind in ("run", "training checkpoint")
    opened = open_seen(beside, code if is_run else None, progress)
    name = model_name(beside)
    if name == first.name:
        return first, ExploredModel(f"{name} (the second)", opened)
    full_names = (first.name, name)
    names = (short_name(first.name), short_name(name))
    names = names if names[0] != names[1] else full_names
    notes = (f"{one} is {full}." if one != full else "" for one, full in zip(names, full_names))
    models = (first.model, opened)
    first, second = (ExploredModel(*parts) for parts in zip(names, models, notes))
    return first, second


def short_name(name: str) -> str:
    """The last part of a model's path, without the options behind it.

    >>> short_name("runs/shapes-1"), short_name("timm:vit_tiny_patch16_224"), short_name("old/deit.pth,source=deit")
    ('shapes-1', 'timm:vit_tiny_patch16_224', 'deit.pth')
    """
    return name.split(",")[0].rstrip("/").split("/")[-1] or name


def open_seen(model: str | Path | nn.Module, code: str | None, progress: Progress) -> Classifier:
    """A model whose attention can be seen. Raises `UsageError` for one that runs outside of PyTorch."""
    opened = open_model(model, progress, code)
    if isinstance(opened, ArtifactModel):
        raise UsageError(
            f"{model_name(model)} is an exported model. It runs outside of PyTorch, where its attention cannot be "
            "seen. Explore the model that it was exported from."
        )
    return opened


def untrained(trained: ExploredModel) -> ExploredModel:
    """The same architecture and preprocessing with new weights, and nothing that was measured on the trained ones."""
    record = trained.model.record
    own = {"untrained twin of": trained.name}
    record = replace(record, calibration=None, feature_statistics=None, provenance=own)
    twin = attach_record(untrained_twin(trained.model, SEED).eval(), record)
    note = f"{UNTRAINED} is the architecture of {trained.name} with every weight drawn anew (seed {SEED})."
    return ExploredModel(UNTRAINED, twin, note)


@dataclass(frozen=True)
class Shown:
    """What a page says of one of its models: the attention layers that it shows, and why it cannot show others."""

    name: str
    layers: tuple[str, ...]
    refused: dict[str, str]
    notes: tuple[str, ...]

    def facts(self, several: bool) -> list[str]:
        """Sentences on what the page does not show of the model, with its name if there are several."""
        own = f"{self.name}: " if several else ""
        facts = [f"{own}{name} is not shown: {why}" for name, why in self.refused.items()]
        return facts + [f"{own}{note}" for note in self.notes]


def describe_shown(name: str, first: ExploredImage) -> Shown:
    """The layers of a model as its first image shows them."""
    notes = tuple(f"{layer.name}: {layer.note}" for layer in first.layers if layer.note)
    return Shown(name, tuple(layer.name for layer in first.layers), first.left_out, notes)


def layers_sentence(shown: tuple[Shown, ...]) -> Iterator[str]:
    """How layers are paired where two models have different numbers of them."""
    if len({len(one.layers) for one in shown}) > 1:
        counts = " and ".join(f"{one.name} has {len(one.layers)}" for one in shown)
        yield (
            f"The models have different numbers of attention layers: {counts}. Beside a layer stands the one at the "
            "same share of the depth: the first beside the first, the last beside the last."
        )


def named_error(error: VitralError, name: str) -> VitralError:
    """The same error, which says which of two models it is about."""
    return type(error)(f"{name}: {error}")

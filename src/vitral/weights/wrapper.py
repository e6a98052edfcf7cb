"""Find a model inside what it was trained in: `model.` of Lightning, `backbone.` of DINO, any module around it.

A prefix is taken for a wrapper's only if no format has the names as they are, and if a format accounts for every name
below it. What stands outside is dropped, and listed; one linear layer there is taken for the model's head.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from vitral.base.errors import StoreError
from vitral.weights.head_layer import HEAD_WORDS, describe_head, find_linear
from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import match_names
from vitral.weights.source import Source

# Names of what cuts an image into patches, with which a model begins.
BEGINNINGS = (
    "patch_embed.proj.weight",
    "conv_proj.weight",
    "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embeddings.weight",
    "embeddings.patch_embedding.weight",
    "features.0.0.weight",
    "embedding/kernel",
)
PROJECTION = ("mlp", "last_layer")  # words in names of the head that DINO trains with


def find_prefixes(names: Iterable[str]) -> list[str]:
    """What may stand before the names of a model, shortest first: `model.`, `model.vit.`; always nothing as well."""
    found = {""}
    for name in names:
        for beginning in BEGINNINGS:
            if name.endswith(f".{beginning}"):
                words = name.removesuffix(f".{beginning}").split(".")
                found |= {".".join(words[:count]) + "." for count in range(1, len(words) + 1)}
    return sorted(found, key=lambda prefix: prefix.count("."))


def unwrap(checkpoint: Checkpoint, sources: Iterable[Source], named: bool) -> Checkpoint:
    """The checkpoint without the prefix of a wrapper, if one of the `sources` has the names below it and no other.

    `named` says that the caller named the source, so that it need not recognise the file. Raises `StoreError` if two
    layers may be the head.
    """
    ways = [(prefix, below(checkpoint, prefix)) for prefix in find_prefixes(checkpoint.tensors)]
    for prefix, inner in ways:
        outside = len(checkpoint.tensors) - len(inner.tensors)
        if prefix and 2 * outside >= len(checkpoint.tensors):
            continue  # most of the file is something else
        if any(accounts_for(source, inner, named) for source in sources):
            return take_out(checkpoint, inner, prefix) if prefix else checkpoint
    return checkpoint


def below(checkpoint: Checkpoint, prefix: str) -> Checkpoint:
    """The part of a checkpoint whose names begin so, without the prefix."""
    inside = {
        name.removeprefix(prefix): tensor for name, tensor in checkpoint.tensors.items() if name.startswith(prefix)
    }
    return replace(checkpoint, tensors=inside)


def accounts_for(source: Source, checkpoint: Checkpoint, named: bool) -> bool:
    """Whether the source reads the checkpoint and has a place for each name, but for those of a head."""
    if not named and not (source.may_match(checkpoint) and source.recognises(checkpoint)):
        return False
    try:
        theirs = source.prepare(checkpoint.tensors)
        left = unplaced_names(source, theirs)
    except (StoreError, KeyError, RuntimeError):
        return False
    return all(name.partition(".")[0] in HEAD_WORDS for name in left)


def unplaced_names(source: Source, theirs: Mapping[str, object]) -> list[str]:
    """Their names that no rule of the source has, and that it does not drop."""
    rules = source.rules(theirs)  # type: ignore[arg-type]  # rules look at names only
    templates = [template for rule in rules for template in rule.theirs] + list(source.dropped)
    placed = {name for template in templates for name in theirs if match_names(template, [name])}
    return [name for name in theirs if name not in placed]


def take_out(checkpoint: Checkpoint, inner: Checkpoint, prefix: str) -> Checkpoint:
    """The inner model, with the head that stands beside it, and every other name outside dropped."""
    outside = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith(prefix)}
    assumed = [f"the model consists of the tensors whose names begin with {prefix!r}"]
    heads = {own: tensor for name, tensor in outside.items() if is_head(own := relative(name, prefix))}
    layer = find_linear(heads)
    rivals = [name for name in inner.tensors if name.partition(".")[0] in HEAD_WORDS]
    if heads and rivals:
        raise StoreError(
            f"{checkpoint.path} has two layers that may be the head: {layer or next(iter(heads))} outside {prefix!r} "
            f"and {rivals[0]} inside. "
            "The tensors do not show whether the model uses one or both. Supported: one head. Save the state_dict of "
            "the model that makes the prediction, with one of them."
        )
    tensors = dict(inner.tensors)
    if layer is not None:
        tensors |= heads
        assumed.append(f"{describe_head(layer)}, on the output of the model inside {prefix!r}")
    kept = heads if layer is not None else {}
    strange = {name: own for name in outside if (own := relative(name, prefix)) not in kept}
    dropped = {name: reason_to_drop(own, prefix) for name, own in strange.items()}
    return replace(
        checkpoint,
        tensors=tensors,
        assumed=(*checkpoint.assumed, *assumed),
        dropped=checkpoint.dropped | dropped,
    )


def relative(name: str, prefix: str) -> str:
    """A name outside a prefix, without the words that both begin with: `head.weight` of `model.head.weight`."""
    own, theirs = name.split("."), prefix.split(".")
    shared = next((count for count, pair in enumerate(zip(own, theirs)) if pair[0] != pair[1]), 0)
    return ".".join(own[shared:])


def is_head(name: str) -> bool:
    words = name.split(".")
    return words[0] in HEAD_WORDS and not any(word in PROJECTION for word in words)


def reason_to_drop(name: str, prefix: str) -> str:
    if any(word in PROJECTION for word in name.split(".")):
        return "used in pre-training only"
    if is_head(name):
        return f"a head of several layers outside {prefix!r}, whose functions the tensors do not show"
    return f"it is not part of the model in {prefix!r}"

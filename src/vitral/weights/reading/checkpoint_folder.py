"""Which file or files of a folder are its checkpoint; and where it holds several, which of them is the best."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitral.base.errors import StoreError

WHOLE = ("model.safetensors", "pytorch_model.bin")  # the one file of a folder, in the order they are looked for
SHARDED = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".npz", ".ckpt", ".tar")  # of checkpoints
STATE = "trainer_state.json"  # of transformers' Trainer: which of its checkpoints is the best
# Files beside a checkpoint: those that training is continued from, and our statistics of the training images.
RESUMING = re.compile(
    r"(training_images|optimizer|scheduler|scaler|rng_state|random_states|training_args|sampler|dl_state).*"
)
LISTED = 6


def list_files(folder: Path) -> list[Path]:
    """The checkpoint in a folder: one file, or the shards that an index names."""
    for name in WHOLE:
        if (folder / name).is_file():
            return [folder / name]
    for name in SHARDED:
        if (folder / name).is_file():
            listed = read_json(folder / name).get("weight_map")
            if not isinstance(listed, dict) or not all(isinstance(value, str) for value in listed.values()):
                raise StoreError(f"{folder / name} is not an index of shards: it has no weight_map.")
            shards = [folder / shard for shard in sorted(set(listed.values()))]
            if outside := [shard for shard in shards if shard.parent != folder]:
                raise StoreError(f"{folder / name} names {outside[0]}, which is not in its folder.")
            if missing := [str(shard) for shard in shards if not shard.is_file()]:
                raise StoreError(f"{folder / name} names shards that do not exist: {', '.join(missing)}.")
            return shards
    raise folder_refusal(folder)


def holds_one(folder: Path) -> bool:
    """Whether a folder has the one checkpoint that its name stands for, as transformers and timm write it."""
    return any((folder / name).is_file() for name in (*WHOLE, *SHARDED))


def is_adapter(path: Path) -> bool:
    """Whether a path is the folder of an adapter of peft, or its weights in such a folder."""
    folder = path.parent if path.name in ADAPTER_WEIGHTS else path
    return (folder / ADAPTER).is_file()


def folder_refusal(folder: Path) -> StoreError:
    """What to say of a folder without one checkpoint: which there are in it, and which of them is the best."""
    found = list_checkpoints(folder)
    if not found:
        return StoreError(
            f"{folder} does not contain a checkpoint: looked for {', '.join((*WHOLE, *SHARDED))}, and for files or "
            f"folders with names that end in {', '.join(SUFFIXES)}. Specify the file."
        )
    best, reason = find_best(folder, found)
    others = [path for path in found if path != best]
    listed = ", ".join(str(path.relative_to(folder)) for path in others[:LISTED])
    rest = f", and {len(others) - LISTED} more" if len(others) > LISTED else ""
    if len(found) == 1:
        return StoreError(f"{folder} contains one checkpoint, {found[0].name}. Specify it: {found[0]}.")
    first = f"{best.relative_to(folder)} ({reason}), " if best is not None else ""
    unmarked = "" if best is not None else " None of them is marked as the best."
    return StoreError(
        f"{folder} contains several checkpoints: {first}{listed}{rest}.{unmarked} Specify one: {best or others[0]}."
    )


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder and in the folders inside it, the latest first by the numbers in their names."""
    found: list[Path] = []
    for path in folder.iterdir():
        with suppress(OSError):  # of a folder that may not be read
            if path.is_dir():
                is_one = holds_one(path) or is_adapter(path) or (path / "model.json").is_file()
                found += [path] if is_one else sorted(file for file in path.iterdir() if is_checkpoint(file))
            elif is_checkpoint(path):
                found.append(path)
    return sorted(found, key=lambda path: ([-int(number) for number in re.findall(r"\d+", path.name)], path.name))


def is_checkpoint(path: Path) -> bool:
    return path.is_file() and path.name.endswith(SUFFIXES) and not RESUMING.fullmatch(path.name)


def find_best(folder: Path, found: list[Path]) -> tuple[Path | None, str]:
    """The best of several checkpoints, and what says so: the Trainer's state, or a name."""
    for place in (folder, *found):
        if (state := place / STATE).is_file() and isinstance(
            stated := read_json(state).get("best_model_checkpoint"), str
        ):
            name = re.split(r"[/\\]", stated.rstrip("/\\"))[-1]  # the path is where it was trained
            best = next((path for path in found if path.name == name), None)
            if best is not None:
                return best, f"the best, as {state.relative_to(folder)} states"
    marked = [path for path in found if "best" in str(path.relative_to(folder)).lower()]
    return (marked[0], "the best, by its name") if len(marked) == 1 else (None, "")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path} holds a {type(content).__name__}, not a JSON object.")
    return content

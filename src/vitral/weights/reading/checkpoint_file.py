"""Read a checkpoint's tensors without running anything that is in it.

safetensors, whole or in shards with an index; PyTorch's files with `weights_only=True`; NumPy's `.npz` without pickles.
The first bytes decide what a file is, not its name.
"""

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitral.base.errors import StoreError, UnknownName
from vitral.base.files import sha256
from vitral.weights.reading.checkpoint_folder import list_files, read_json
from vitral.weights.reading.pickled_file import read_pickled
from vitral.weights.reading.quantised import dequantise
from vitral.weights.reading.training_state import WeightSet, extract_weights

HALF = (torch.float16, torch.bfloat16)  # made single precision before anything is computed with them
REAL = (*HALF, torch.float32, torch.float64)
LARGEST = 2**36  # bytes that a header may declare


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, the content of `config.json` (empty if there is none), and the file's hash.

    Of what a training script saved, `dropped` maps tensors that are not weights to the reason, `assumed` says in
    words which of several sets of weights was taken, and `arguments` maps where it saved the training's arguments to
    what they are.
    """

    path: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    sha256: str
    dropped: dict[str, str] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the files beside the checkpoint are."""
        return self.path if self.path.is_dir() else self.path.parent


def read_checkpoint(path: Path, expected: str | None = None, weights: str | None = None) -> Checkpoint:
    """Read a file, or a folder with one.

    `expected` is the SHA-256 that the file must have; `weights` names the set where a training script saved several.
    Raises `UnknownName` if the path does not exist, `StoreError` if it is damaged or not a checkpoint.
    """
    if not path.exists():
        raise UnknownName(f"There is no file or folder {path}.")
    files, folder = ([path], path.parent) if path.is_file() else (list_files(path), path)
    parts = [read_tensors(file, weights) for file in files]
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    dropped = {name: reason for part in parts for name, reason in part.dropped.items()}
    if not tensors:
        raise StoreError(f"{path} does not contain tensors.")
    tensors, restored = dequantise(tensors, path)
    if odd := [name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.dtype not in REAL]:
        supported = ", ".join(str(dtype).removeprefix("torch.") for dtype in REAL)
        raise StoreError(
            f"{path} holds {odd[0]} as {tensors[odd[0]].dtype}; supported: {supported}. Save it in one of these."
        )
    if broken := [
        name for name, tensor in tensors.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]:
        raise StoreError(f"{path} holds values that are NaN or infinite, in {', '.join(broken[:3])}: it is damaged.")
    found = sha256(files[0])
    if expected is not None and found != expected.lower():
        raise StoreError(f"{files[0]} has SHA-256 {found}, not {expected}: it is damaged or a different file.")
    single = {name: tensor.float() if tensor.dtype in HALF else tensor for name, tensor in tensors.items()}
    return Checkpoint(
        path,
        single,
        read_json(folder / "config.json"),
        found,
        dropped,
        (*parts[0].assumed, *restored),
        parts[0].arguments,
    )


def read_tensors(file: Path, weights: str | None = None) -> WeightSet:
    """The tensors in one file."""
    with file.open("rb") as opened:
        start = opened.read(512)
    if start.startswith(b"version https://git-lfs"):
        raise StoreError(f"{file} is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`.")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise StoreError(f"{file} is a web page: the download returned a page instead of the file.")
    if len(start) < 8:
        raise StoreError(f"{file} has {len(start)} bytes: it is not a checkpoint.")
    if zipfile.is_zipfile(file) or start.startswith(b"PK"):
        content = read_npz(file) if is_npz(file) else read_pickled(file)
    elif start[8:9] == b"{" and int.from_bytes(start[:8], "little") < LARGEST:
        content = read_safetensors(file)  # a header's length in eight bytes, then the header, which is JSON
    else:
        content = read_pickled(file)
    return extract_weights(content, file, weights)


def read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise StoreError(f"{file} is damaged or incomplete: {error}") from error


def is_npz(file: Path) -> bool:
    """Whether an archive is NumPy's, not PyTorch's. Raises `StoreError` for a damaged one."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            size = file.stat().st_size
            # deflate cannot shrink by more than about 1,030: a larger ratio is a bomb, or a header that lies
            if large := [m.filename for m in members if m.file_size > LARGEST or m.file_size > 1100 * size]:
                raise StoreError(f"{file} declares an impossible size for {large[0]}: it is damaged or malicious.")
            # PyTorch does not verify checksums: a flipped bit would pass as a weight
            if (damaged := archive.testzip()) is not None:
                raise StoreError(f"{file} is damaged: the checksum of {damaged} does not match.")
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{file} is damaged or incomplete: {error}.") from error
    return all(member.filename.endswith(".npy") for member in members)


def read_npz(file: Path) -> dict[str, Tensor]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name.replace("\\", "/"): widen_bfloat16(archive[name]) for name in archive.files}
    except Exception as error:  # NumPy raises many kinds for a header that is not what it should be
        raise StoreError(f"{file} is not a NumPy archive of plain arrays: {error}.") from error
    if wrong := [name for name, array in arrays.items() if array.dtype.kind not in "fiub"]:
        raise StoreError(f"{file} holds {wrong[0]}, which is not an array of numbers.")
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def widen_bfloat16(array: np.ndarray) -> np.ndarray:
    """Single precision of the bfloat16 that JAX saves as two opaque bytes: the upper half of a float32."""
    if array.dtype != np.dtype("V2"):
        return array
    return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)

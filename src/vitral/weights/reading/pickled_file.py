"""Read a file that `torch.save` wrote, without running anything that is in it.

Beside tensors it may hold values of a few harmless kinds, in which scripts save their arguments: namespaces, paths,
NumPy's numbers, and dictionaries under other names. Anything else is refused, with the way to save the weights alone.
"""

import argparse
import pathlib
import re
import types
import zipfile
from collections import OrderedDict, defaultdict
from contextlib import suppress
from pathlib import Path
from pickletools import genops
from typing import Any

import numpy as np
import torch

from vitral.base.errors import StoreError

# Dictionaries of libraries that may not be installed: their content is read into a plain one.
DICTIONARIES = (
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "easydict.EasyDict",
    "addict.addict.Dict",
    "yacs.config.CfgNode",
    "mmengine.config.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
)
MODULE = "torch.nn.modules."  # of the classes in a pickled model
PICKLES_BEFORE_1_6 = 4  # one after another: a mark, a version, the machine, and the content
READ = ("torch._utils.", "torch.Float", "torch.Half", "torch.Long", "torch.Int", "torch.storage.", "collections.")
TRUSTED = "if you trust the file"


# Pure paths name files and cannot open them.
HARMLESS: list[Any] = [argparse.Namespace, types.SimpleNamespace, defaultdict, dict]
HARMLESS += [(pathlib.PurePosixPath, name) for name in ("pathlib.PosixPath", "pathlib._local.PosixPath")]
HARMLESS += [(pathlib.PureWindowsPath, name) for name in ("pathlib.WindowsPath", "pathlib._local.WindowsPath")]
HARMLESS += [pathlib.PurePosixPath, pathlib.PureWindowsPath, *((OrderedDict, name) for name in DICTIONARIES)]
HARMLESS += [np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"}]
HARMLESS += [
    (value.__reduce__()[0], f"numpy.{core}.multiarray.{name}")
    for core in ("core", "_core")  # before NumPy 2 and since
    for name, value in (("scalar", np.float64(0)), ("_reconstruct", np.zeros(1)))
]


def read_pickled(file: Path) -> Any:
    """The content of a file. Raises `StoreError` for a pickled model, for other objects, and for what is no pickle."""
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises many kinds for what is no pickle or is refused
        raise pickle_refusal(file, error) from error


def pickle_refusal(file: Path, error: Exception) -> StoreError:
    """What to say of a file that cannot be read so."""
    if "TorchScript" in str(error):
        return StoreError(
            f"{file} is a TorchScript archive, a program with its weights; Vitral reads tensors by name. Save them, "
            f"{TRUSTED}: torch.save(torch.jit.load({file.name!r}).state_dict(), 'weights.pth')."
        )
    names = foreign_names(file, error)
    load = f"torch.load({file.name!r}, weights_only=False)"
    if modules := [name for name in names if name.startswith(MODULE)]:
        own = [name for name in names if not name.startswith(("torch.", "collections.", "builtins.", "_codecs."))]
        return StoreError(
            f"{file} holds a whole pickled model ({(own or modules)[0]}), which only the code of its classes can read; "
            f"Vitral reads tensors by name and runs no code from a file. Save its weights where that code is "
            f"installed, {TRUSTED}: model = {load}; torch.save(model.state_dict(), 'weights.pth')."
        )
    if names:
        return StoreError(
            f"{file} holds objects of {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}, which PyTorch cannot "
            f"read without running code from the file; Vitral reads tensors, numbers, texts and argparse namespaces. "
            f"Save the weights alone, {TRUSTED}: content = {load}; torch.save(content['state_dict'], 'weights.pth'), "
            "with the key that it has."
        )
    return StoreError(
        f"{file} is not a safetensors or NumPy file, and PyTorch cannot read it without running code from it "
        f"({type(error).__name__}): it is damaged, not a checkpoint, or unsafe."
    )


def foreign_names(file: Path, error: Exception) -> list[str]:
    """The classes and functions that a file names and that are not read, as they come: the first is of the whole."""
    with suppress(Exception), torch.serialization.safe_globals(HARMLESS):
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
        with zipfile.ZipFile(file) as archive:
            content = next(archive.read(each) for each in archive.namelist() if each.endswith("data.pkl"))
        return sorted(names, key=lambda name: content.find("\n".join(name.rsplit(".", 1)).encode()))
    found = dict.fromkeys(re.findall(r"GLOBAL (\S+) was not an allowed global", str(error)))
    with suppress(Exception), file.open("rb") as opened:
        for _ in range(PICKLES_BEFORE_1_6):
            names = [str(argument).replace(" ", ".") for code, argument, _ in genops(opened) if code.name == "GLOBAL"]
            found |= dict.fromkeys(name for name in names if found and not name.startswith(READ))
    return list(found)

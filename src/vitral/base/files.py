"""Atomic writing: a file or folder is complete or does not exist."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitral.base.errors import StoreError


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn the operating system's errors into a `StoreError` that says what to do."""
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "The disk is full: free some space, or choose another folder",
            errno.EDQUOT: "The disk quota is used up: free some space, or choose another folder",
            errno.EACCES: "Permission denied: choose a folder that you may write to",
            errno.EROFS: "The file system is read-only: choose another folder",
        }.get(error.errno or 0, f"{error.strerror or error}: choose another folder")
        raise StoreError(f"{path} could not be written. {advice}. No incomplete file was left behind.") from error


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file under a temporary name, flush it to the disk, then rename it."""
    data = content.encode() if isinstance(content, str) else content
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)  # `mkstemp` makes files that only their owner can read
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it is renamed to `path` when the block succeeds, and removed when it raises.

    A folder that was at `path` before is replaced.
    """
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            for file in temporary.iterdir():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            temporary.chmod(0o755)
            # A folder cannot be renamed onto another that has files in it.
            shutil.rmtree(path, ignore_errors=True)
            temporary.replace(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def unused_path(path: Path) -> Path:
    """The path itself if nothing is there, otherwise `name-2.png`, `name-3.png`, ..."""
    number, unused = 1, path
    while unused.exists():
        number += 1
        unused = path.with_stem(f"{path.stem}-{number}")
    return unused


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

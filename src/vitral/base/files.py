"""Files that are there whole or not at all."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitral.base.errors import StoreError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a sentence that says what to do."""
    try:
        yield
    except OSError as error:
        advice = {
            28: "The disk is full: free some space, or choose another folder",
            122: "The disk quota is used up: free some space, or choose another folder",
            13: "Permission denied: choose a folder that you may write to",
            30: "The file system is read-only: choose another folder",
        }.get(error.errno or 0, f"{error.strerror or error}: choose another folder")
        raise StoreError(f"{path} could not be written. {advice}. Nothing was left half-written.") from error


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file under a temporary name, flush it to the disk, then give it its name."""
    data = content.encode() if isinstance(content, str) else content
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it gets its name when the block ends well, and is removed when it does not."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            for file in temporary.iterdir():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            temporary.chmod(0o755)
            shutil.rmtree(path, ignore_errors=True)
            temporary.replace(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def free(path: Path) -> Path:
    """A path that is not taken: `name.png`, else `name-2.png`, ..."""
    number, wanted = 1, path
    while path.exists():
        number += 1
        path = wanted.with_stem(f"{wanted.stem}-{number}")
    return path


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

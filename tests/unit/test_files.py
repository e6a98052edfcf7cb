"""Files are there whole or not at all."""

import errno
import hashlib
import os
import stat

import pytest

from vitral.base import files
from vitral.base.errors import StoreError
from vitral.base.files import sha256, write_file, write_folder, writing_to


@pytest.mark.parametrize("content", ["Ångström\n", b"\x00\xff" * 1000, ""])
def test_a_file_holds_what_was_written(tmp_path, content):
    path = tmp_path / "a" / "b" / "file"
    write_file(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_replaces_what_was_there(tmp_path):
    path = tmp_path / "file"
    for content in ("a long first content", "second"):
        write_file(path, content)
    assert path.read_text() == "second"


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("before", [None, "what was there"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"]
)
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch, step, before, error):
    path = tmp_path / "file"
    if before:
        path.write_text(before)

    def fail(*_):
        raise error

    monkeypatch.setattr(*(os, "fsync", fail) if step == "fsync" else (files.Path, step, fail))
    with pytest.raises((StoreError, KeyboardInterrupt)):
        write_file(path, "new content")
    monkeypatch.undo()
    assert [entry.name for entry in tmp_path.iterdir()] == (["file"] if before else [])
    assert not before or path.read_text() == before


def test_the_content_is_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    path, order = tmp_path / "file", []
    sync, replace = os.fsync, files.Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append(("sync", path.exists())), sync(handle))[1])
    monkeypatch.setattr(
        files.Path, "replace", lambda old, new: (order.append(("name", path.exists())), replace(old, new))[1]
    )
    write_file(path, "x")
    assert order[:2] == [("sync", False), ("name", False)]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "The disk is full: free some space"),
        (errno.EDQUOT, "The disk quota is used up"),
        (errno.EACCES, "Permission denied: choose a folder that you may write to"),
        (errno.EROFS, "The file system is read-only: choose another folder"),
        (errno.EIO, "Input/output error: choose another folder"),
    ],
)
def test_what_the_disk_refuses_is_said_with_what_to_do(tmp_path, number, advice):
    with pytest.raises(StoreError) as caught, writing_to(tmp_path / "file"):
        raise OSError(number, os.strerror(number))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'file'} could not be written. {advice}")
    assert message.endswith("No incomplete file was left behind.")


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="could not be written"):
        write_file(tmp_path / "file" / "inside", "y")
    with pytest.raises(StoreError, match="could not be written"):
        write_file(tmp_path, "y")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_folder_gets_its_name_when_it_is_full(tmp_path):
    with write_folder(tmp_path / "a" / "new") as folder:
        (folder / "file").write_text("x")
        assert not (tmp_path / "a" / "new").exists()
    assert (tmp_path / "a" / "new" / "file").read_text() == "x"
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["new"]


def test_a_folder_replaces_the_one_before(tmp_path):
    for name in ("first", "second"):
        with write_folder(tmp_path / "new") as folder:
            (folder / name).write_text("x")
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["second"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_a_folder_that_fails_is_removed_and_the_one_before_kept(tmp_path, error):
    with write_folder(tmp_path / "new") as folder:
        (folder / "old").write_text("x")
    expected = StoreError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), write_folder(tmp_path / "new") as folder:
        (folder / "half").write_text("x")
        raise error
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["old"]


def test_the_hash_is_that_of_the_content(tmp_path):
    (tmp_path / "file").write_bytes(b"vitral" * 100_000)
    assert sha256(tmp_path / "file") == hashlib.sha256(b"vitral" * 100_000).hexdigest()

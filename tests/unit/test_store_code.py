"""The reader's own model, `file.py:Name`, is built, saved and loaded like Vitral's own."""

import os
import textwrap

import pytest
import torch
from torch import nn

from tiny import redraw, with_record
from vitral.base.errors import ConfigError, StoreError, UnknownName, UsageError
from vitral.store.code import from_code, is_code
from vitral.store.model import load_model, save_model

SOURCE = """
import torch
from torch import nn

WIDTH = 4

class Own(nn.Module):
    def __init__(self, num_classes, img_size=32, depth=1):
        super().__init__()
        self.img_size, self.depth = img_size, depth
        self.stem = nn.Conv2d(3, WIDTH, 2)
        self.norm = nn.BatchNorm2d(WIDTH)
        self.head = nn.Linear(WIDTH, num_classes)
        self.again = nn.Linear(WIDTH, num_classes)
        self.again.weight = self.head.weight

    def forward(self, images):
        x = self.norm(self.stem(images)).mean((2, 3))
        return self.head(x) + self.again(x)

def small(num_classes):
    return Own(num_classes, depth=3)

def number():
    return 3

class Asks(nn.Module):
    def __init__(self, num_classes, temperature):
        super().__init__()

class Nothing(nn.Module):
    pass

class Fails(nn.Module):
    def __init__(self, num_classes):
        raise KeyError("no such thing")
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(SOURCE)
    return path


def test_a_class_or_function_is_given_what_it_asks_for(file):
    model = from_code(f"{file}:Own", 5, (8, 8))
    assert isinstance(model, nn.Module)
    assert model.head.out_features == 5
    assert (model.img_size, model.depth) == (8, 1)
    assert from_code(f"{file}:Own", 5, (8, 18)).img_size == (8, 18)
    assert from_code(f"{file}:small", 2, (8, 18)).depth == 3


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("own.py:Own", True), ("a/b.py:f", True), ("own.py", True), ("vit_nano_patch8_48", False), ("runs/x-1", False)],
)
def test_code_is_told_from_names(name, wanted):
    assert is_code(name) is wanted


def test_own_code_comes_back_from_its_file(file, tmp_path, images):
    model = with_record(redraw(from_code(f"{file}:Own", 5, (8, 18))))
    save_model(model, tmp_path / "run", {"seed": 1})
    again = load_model(tmp_path / "run")
    assert again.img_size == (8, 18)
    assert torch.equal(again(images), model(images))
    assert again.classes == model.classes
    assert not again.training


def test_code_that_has_changed_since_is_refused_unless_it_is_named(file, tmp_path, images):
    model = with_record(redraw(from_code(f"{file}:Own", 5, (8, 18))))
    save_model(model, tmp_path / "run", {})
    file.write_text(SOURCE + "\n# changed")
    with pytest.raises(StoreError, match=r"own\.py:Own, which is missing or has changed since\. Specify --code"):
        load_model(tmp_path / "run")
    assert torch.equal(load_model(tmp_path / "run", code=f"{file}:Own")(images), model(images))
    moved = file.rename(tmp_path / "moved.py")
    with pytest.raises(StoreError, match="missing or has changed"):
        load_model(tmp_path / "run")
    assert torch.equal(load_model(tmp_path / "run", code=f"{moved}:Own")(images), model(images))


def test_code_that_is_another_model_is_refused(file, tmp_path):
    save_model(with_record(from_code(f"{file}:Own", 5, (8, 18))), tmp_path / "run", {})
    file.write_text(SOURCE.replace("WIDTH = 4", "WIDTH = 6"))
    with pytest.raises(StoreError, match="do not fit the model"):
        load_model(tmp_path / "run", code=f"{file}:Own")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("own.py:Ownn", UnknownName, r"does not define 'Ownn'\. Did you mean 'Own'\?"),
        (
            "own.py",
            UnknownName,
            r"does not name a class\. Specify .*own\.py:NAME; it defines: Own, small, number, Asks, ",
        ),
        ("own.py:WIDTH", UnknownName, "does not define 'WIDTH'"),
        ("own.py:nn", UnknownName, "does not define 'nn'"),
        ("none.py:Own", UnknownName, r"no file .*none\.py\. Specify your own model as file\.py:Name"),
        ("own.py:number", ConfigError, "returns a int, not a torch.nn.Module"),
        ("own.py:Asks", ConfigError, r"requires temperature, which Vitral does not pass\. Give it a default"),
        ("own.py:Nothing", ConfigError, "has no parameters, so there is nothing to train"),
        ("own.py:Fails", UsageError, "failed: KeyError in line 36: 'no such thing'"),
    ],
)
def test_what_cannot_be_built_is_said(file, name, error, message):
    with pytest.raises(error, match=message):
        from_code(str(file.parent / name), 5, (8, 8))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import torch\n\nx = 1 / 0\n", "does not run: ZeroDivisionError in line 3"),
        ("def f(:\n    pass\n", "does not run: SyntaxError in line 1"),
        ("import not_a_module_at_all\n", "ModuleNotFoundError in line 1"),
        ("def f():\n    raise ValueError('x')\n\nf()\n", "ValueError in line 2"),
        ("", "It defines: nothing to call"),
    ],
)
def test_a_file_that_does_not_run_is_named_with_its_line(tmp_path, source, message):
    (tmp_path / "own.py").write_text(source)
    with pytest.raises(UsageError, match=message):
        from_code(f"{tmp_path / 'own.py'}:f", 5, (8, 8))


def test_a_file_is_run_as_it_is_now_and_nothing_is_left_beside_it(file):
    """Even if neither its size nor its time tell that it has changed."""
    times = file.stat().st_atime, file.stat().st_mtime
    assert from_code(f"{file}:Own", 5, (8, 8)).stem.out_channels == 4
    file.write_text(SOURCE.replace("WIDTH = 4", "WIDTH = 6"))
    os.utime(file, times)
    assert from_code(f"{file}:Own", 5, (8, 8)).stem.out_channels == 6
    assert [entry.name for entry in file.parent.iterdir()] == ["own.py"]


def test_a_dataclass_in_the_file_works(tmp_path):
    """Some of Python looks a class's module up by its name."""
    (tmp_path / "own.py").write_text(
        textwrap.dedent("""
        from __future__ import annotations
        from dataclasses import dataclass
        from torch import nn

        @dataclass
        class Settings:
            width: int = 3

        def own(num_classes):
            return nn.Linear(Settings().width, num_classes)
        """)
    )
    assert from_code(f"{tmp_path / 'own.py'}:own", 5, (8, 8)).in_features == 3

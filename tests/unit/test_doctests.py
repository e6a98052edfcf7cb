"""Each example in a docstring runs and prints what it says; a module with `>>>` in it is enrolled by that."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import vitral

ROOT = Path(vitral.__file__).parent
MODULES = [
    ".".join(("vitral", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PUBLIC = (vitral.PatchEmbedding, vitral.Attention, vitral.MLP, vitral.Block, vitral.VisionTransformer)


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may write files
    examples = [test for test in doctest.DocTestFinder().find(import_module(name)) if test.examples]
    assert examples, f"{name} has >>> outside of its docstrings"
    for test in examples:
        runner, said = doctest.DocTestRunner(optionflags=FLAGS), []
        runner.run(test, out=said.append)
        assert not runner.failures, "".join(said)


@pytest.mark.parametrize("part", [*PUBLIC, vitral.create, vitral.list_models], ids=lambda part: part.__name__)
def test_the_parts_of_a_model_have_an_example(part):
    assert ">>> from vitral import " in part.__doc__

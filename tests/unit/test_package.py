"""`import vitral` costs nothing, and gives every promised name."""

import subprocess
import sys
from pathlib import Path

import pytest

import vitral


def python(code):
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_base_imports_no_torch():
    code = """
        import importlib, pkgutil, sys, vitral.base
        for file in pkgutil.iter_modules(vitral.base.__path__, "vitral.base."):
            importlib.import_module(file.name)
        print("torch" in sys.modules)
    """
    assert python("\n".join(line[8:] for line in code.splitlines())).strip() == "False"


@pytest.mark.parametrize("name", vitral.__all__)
def test_each_promised_name_is_there(name):
    found = getattr(vitral, name)
    assert found.__name__ == name
    assert found.__module__ == f"vitral.{vitral.HOMES[name]}"
    assert found.__doc__
    assert name in dir(vitral)


def test_the_homes_are_those_of_the_promised_names():
    assert set(vitral.HOMES) == set(vitral.__all__)


def test_the_contract_is_kept():
    promised = (
        "PatchEmbedding Attention MLP Block VisionTransformer create list_models load load_image predict watch Maps"
    )
    assert set(promised.split()) <= set(vitral.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'vitral' has no attribute 'vision'"):
        _ = vitral.vision


def test_methods_are_called_by_name_after_importing_the_package_alone():
    printed = python("import vitral; print(vitral.explain.attention.__module__)")
    assert printed.strip() == "vitral.explain.methods.attention"
    with pytest.raises(AttributeError, match="has no attribute 'attenttion'"):
        _ = vitral.explain.attenttion


def test_the_family_stays_small():
    """What the literature added: files that are read in one sitting."""
    folder = Path(vitral.__file__).parent / "nn" / "family"
    sizes = {path.name: len(path.read_text().splitlines()) for path in folder.glob("*.py")}
    assert max(sizes.values()) <= 130 and sum(sizes.values()) <= 1_200, sizes
    of_many_tokens = (folder.parent / "high_resolution").glob("*.py")
    sizes = {path.name: len(path.read_text().splitlines()) for path in of_many_tokens}
    assert max(sizes.values()) <= 130 and sum(sizes.values()) <= 700, sizes

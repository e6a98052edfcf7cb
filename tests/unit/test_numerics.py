"""Precision and compiling are chosen by rules that can be said in a sentence."""

import pytest
import torch

from vitral.base import numerics
from vitral.base.errors import ConfigError
from vitral.base.numerics import LONG, WIDE, choose


@pytest.fixture
def machine(monkeypatch):
    """A machine with what it is given."""

    def make(bfloat16=True, compiler="g++", cuda=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bfloat16)
        monkeypatch.setattr(numerics, "cpu_computes_in_bfloat16", lambda: bfloat16)
        monkeypatch.setattr(numerics.shutil, "which", lambda name: f"/usr/bin/{name}" if name == compiler else None)

    return make


@pytest.mark.parametrize(
    ("bfloat16", "width", "precision", "reason"),
    [
        (True, WIDE, "bfloat16", f"bfloat16, because the width of {WIDE} is at least {WIDE}"),
        (True, WIDE - 1, "float32", f"float32, because the width of {WIDE - 1} is below {WIDE}"),
        (False, WIDE, "float32", "float32, because this cpu does not compute in bfloat16"),
        (False, WIDE - 1, "float32", f"float32, because the width of {WIDE - 1} is below {WIDE}"),
    ],
)
def test_automatic_precision_is_bfloat16_where_the_processor_has_it_and_the_model_is_wide(
    machine, bfloat16, width, precision, reason
):
    machine(bfloat16)
    choice = choose("auto", "never", width, 0.0)
    assert choice.precision == precision
    assert choice.reason == f"{reason}; not compiled"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("has", [True, False])
def test_a_precision_that_is_asked_for_is_used(machine, precision, has):
    machine(has)
    choice = choose(precision, "never", 8, 0.0)
    assert choice.precision == precision
    assert choice.reason.startswith(f"{precision}, as requested")


@pytest.mark.parametrize(
    ("compiler", "planned", "compiled"),
    [("g++", LONG, True), ("clang++", LONG, True), ("g++", LONG * 0.99, False), (None, LONG, False)],
)
def test_automatic_compiling_is_for_long_runs_with_a_compiler(machine, compiler, planned, compiled):
    machine(compiler=compiler)
    choice = choose("float32", "auto", 8, planned)
    assert choice.compile is compiled
    assert ("; compiled" in choice.reason) is compiled


def test_compiling_as_asked(machine):
    machine()
    assert choose("float32", "always", 8, 0.0).compile is True
    assert choose("float32", "never", 8, LONG * 10).compile is False


def test_without_a_compiler_a_run_is_not_compiled_and_says_so_or_is_refused_with_advice(machine):
    machine(compiler=None)
    reason = choose("float32", "auto", 8, LONG).reason
    assert "compiler" in reason and "at least" not in reason
    with pytest.raises(ConfigError, match=r"compile=always needs a C\+\+ compiler.*Install g\+\+ or clang"):
        choose("float32", "always", 8, 0.0)


def test_a_graphics_processor_is_used_where_there_is_one(machine):
    machine(cuda=True, compiler=None)
    choice = choose("auto", "auto", WIDE, LONG)
    assert (choice.device, choice.precision, choice.compile) == ("cuda", "bfloat16", True)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast_computes_in_the_chosen_precision(machine, precision, dtype):
    machine()
    linear, x = torch.nn.Linear(3, 2), torch.randn(4, 3)
    with choose(precision, "never", 8, 0.0).autocast():
        assert linear(x).dtype == dtype
    assert linear(x).dtype == torch.float32

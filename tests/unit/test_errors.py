"""What can go wrong is a tree, and each branch has its exit code."""

import inspect
import re

import pytest

from vitral.base import errors

ERRORS = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind)}


def test_the_tree_that_is_printed_is_the_tree():
    printed = re.findall(r"^([│├└─ ]*)(\w+)", errors.__doc__.split("\n\n", 1)[1], re.MULTILINE)
    parents, found = [], {}
    for lines, name in printed:
        depth = len(lines) // 4
        parents[depth:] = [name]
        found[name] = parents[depth - 1] if depth else "Exception"
    assert found == {name: kind.__bases__[0].__name__ for name, kind in ERRORS.items()}


@pytest.mark.parametrize("kind", ERRORS.values())
def test_wrong_usage_exits_with_2_and_failure_with_1(kind):
    assert kind.exit_code == (2 if issubclass(kind, errors.UsageError) else 1)
    assert issubclass(kind, errors.VitralError)


def test_each_is_also_the_kind_of_error_python_would_raise():
    assert issubclass(errors.UsageError, ValueError)
    assert issubclass(errors.Failure, RuntimeError)

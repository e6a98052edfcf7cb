"""Where a number comes from can be read back."""

import json
import platform
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from vitral.base.provenance import cpu_name, installed_version, provenance


def test_provenance_says_command_time_versions_and_machine(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/vitral", "train", "--epochs", "2"])
    record = json.loads(json.dumps(provenance()))
    assert record["command"] == ["vitral", "train", "--epochs", "2"]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(record["time"])) < timedelta(minutes=1)
    assert record["versions"]["torch"] == version("torch")
    assert record["versions"]["numpy"] == version("numpy")
    assert record["versions"]["vitral"] == version("vitral")
    assert record["versions"]["python"] == platform.python_version()
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["cpu"] == cpu_name() != ""


def test_a_package_that_is_not_installed_is_said_to_be_so():
    assert installed_version("no-such-package-at-all") == "not installed"

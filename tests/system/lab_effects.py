"""What each option of `vitral lab` does."""

from effects import effect

from vitral.lab.start_file import build_start_file, read_solution
from vitral.lab.station import load_stations


@effect("lab", "action")
def actions(vitral, tmp_path):
    listed = vitral("lab", "list", "--json").done()
    assert [row["name"] for row in listed.json["stations"]] == list(load_stations())
    assert all(station.title in listed.messages for station in load_stations().values())
    vitral("lab", "list", "patchify").refused(2, "leave the names out")
    vitral("lab", "starts", "patchify").refused(2, "Did you mean 'start'")
    assert "0 of 12 passed, next: vitral lab start patchify" in vitral("lab", "status").done().printed


@effect("lab", "names")
def named(vitral, tmp_path):
    vitral("lab", "start").refused(2, "Specify a station")
    vitral("lab", "start", "patchfy").refused(2, "Did you mean 'patchify'")
    vitral("lab", "start", "tokens", "head").done()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head.py", "tokens.py"]
    vitral("lab", "start", "all").done()
    assert {f"{name}.py" for name in load_stations()} == {path.name for path in tmp_path.iterdir()}


@effect("lab", "folder")
def elsewhere(vitral, tmp_path):
    vitral("lab", "start", "tokens", "--folder", "my/lab").done()
    assert (tmp_path / "my" / "lab" / "tokens.py").read_text() == build_start_file("tokens")
    vitral("lab", "check", "tokens", "--folder", "my/lab").reported(1, "has not been changed yet")


@effect("lab", "seconds")
def patience(vitral, tmp_path):
    (tmp_path / "tokens.py").write_text("import time\ntime.sleep(2)\n" + read_solution("tokens"))
    vitral("lab", "check", "tokens", "--seconds", 1).reported(1, "stopped after 1 seconds", "line 2")
    vitral("lab", "check", "tokens", "--seconds", 60).done()
    vitral("lab", "check", "tokens", "--seconds", 0).refused(2, "1 to 3,600")


@effect("lab", "json")
def machine_readable(vitral, tmp_path):
    (tmp_path / "tokens.py").write_text(read_solution("tokens"))
    found = vitral("lab", "check", "tokens", "--json").done().json["stations"]
    assert found == [{"name": "tokens", "passed": True, "predicted": ""}]
    (shown,) = vitral("lab", "solution", "tokens", "--json").done().json["stations"]
    assert shown["solution"] == read_solution("tokens")

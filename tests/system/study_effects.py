"""The effect of each option of `vitral study`. The runs are of `locality` on a few photos, which takes seconds."""

import json
import re

from effects import effect

from vitral.studies.running import progress
from vitral.studies.running.plan import FIRST_SEED

SMOKE = ("study", "run", "locality", "--preset", "smoke", "--data", "photos", "--processes", 2)


@effect("study", "action")
def action_lists_runs_or_reports(vitral, photos, tmp_path):
    """Deleted pages are written again from the records, without a run."""
    listed = vitral("study", "list").done().printed
    assert "locality" in listed and "samples" in listed
    vitral("study", "list", "locality").refused(2, "leave the names out")
    vitral("study", "lisst").refused(2, "Did you mean 'list'")
    vitral("study", "report").refused(2, "has no records")
    vitral(*SMOKE).done()
    page = tmp_path / "runs" / "studies" / "smoke-own" / "locality.html"
    content = page.read_text()
    page.unlink()
    vitral("study", "report", "--preset", "smoke", "--data", "photos").done()
    assert page.read_text() == content


@effect("study", "names")
def names_choose_the_studies(vitral, monkeypatch):
    monkeypatch.setattr(progress, "measure_speed", lambda: 100.0)  # images per second; measured in the next test
    words = ("--preset", "full", "--minutes", 0.1)
    messages = (
        vitral("study", "run", "locality", "global_attention", *words)
        .refused(2, "locality", "Studies that fit")
        .messages
    )
    assert "global_attention" in messages and "attention_cost" not in messages
    vitral("study", "run").refused(2, "or all")
    vitral("study", "run", "localty").refused(2, "Did you mean 'locality'")
    assert "attention_cost" in vitral("study", "run", "all", *words).refused(2).messages


@effect("study", "preset")
def preset_sets_the_budget(vitral):
    spent = {}
    for preset in ("smoke", "quick", "full"):
        listed = vitral("study", "list", "--preset", preset, "--json").done().json["studies"]
        spent[preset] = sum(row["samples"] for row in listed)
    assert 100 * spent["smoke"] < spent["quick"] < spent["full"]
    vitral("study", "list", "--preset", "quik").refused(2, "Did you mean 'quick'")


@effect("study", "processes")
@effect("study", "minutes")
def minutes_are_not_exceeded_and_processes_share_the_work(vitral, monkeypatch):
    """Twice the processes take half the minutes; what fits is listed before anything starts."""
    one = progress.measure_speed()
    assert one > 0
    monkeypatch.setattr(progress, "measure_speed", lambda: one)
    takes = []
    for processes in (1, 2):
        words = ("--preset", "full", "--minutes", 0.1, "--processes", processes)
        messages = vitral("study", "run", "locality", *words).refused(2, "more than 0.1", "none", "smoke").messages
        takes.append(float(messages.partition("about ")[2].partition(" minutes")[0]))
    assert abs(takes[0] - 2 * takes[1]) <= 2, takes


@effect("study", "out")
@effect("study", "stale")
@effect("study", "data")
@effect("study", "model")
@effect("study", "json")
def own_data_and_models_are_run_beside_the_arms(vitral, photos, quick, tmp_path):
    """Your images, your model, the output folder, the JSON line, and what happens to results of a different version."""
    words = (*SMOKE, "--model", "quick.py:Quick", "--out", "deep/studies")
    answer = vitral(*words, "--json").done()
    folder = tmp_path / "deep" / "studies" / "smoke-own"
    assert answer.json["verdicts"] == {"locality": "smoke"} and answer.json["failed"] == 0
    assert answer.json["report"] == "deep/studies/smoke-own/index.html" and (folder / "index.html").is_file()
    runs = json.loads((folder / "locality.json").read_text())["runs"]
    assert {run["training"]["data"] for run in runs} == {"photos"}
    yours = [run for run in runs if run["arm"] == "yours"]
    assert len(yours) == 4 and all(run["status"] == "done" for run in yours)
    assert "yours" in (folder / "locality.html").read_text()

    record = folder / "locality" / f"vit-plain-seed-{FIRST_SEED}.json"
    changed = json.loads(record.read_text()) | {"key": "another"}
    changed["code"]["nn/vit.py"] = "another"
    record.write_text(json.dumps(changed))
    vitral(*words, "--stale", "refuse").refused(2, "nn/vit.py changed")
    answer = vitral(*words, "--stale", "rerun").done()
    assert "running again what was computed by a different version" in answer.messages
    again = vitral(*words).done()
    assert "left" not in again.err, "nothing is left to run"
    assert re.search(r"locality On the images in photos, at .* seeds: A smoke run only shows", again.printed)
    assert "report: deep/studies/smoke-own/index.html" in again.printed

    head = "16), nn.Linear(16, num_classes)"
    quick.write_text(quick.read_text().replace(head, f"{head}  # same"))
    again = vitral(*words).done()
    assert "yours" in again.err, "a model whose file changed is trained again"
    vitral("study", "run", "attention_maps", "--data", "photos").refused(2, "needs synthetic images")
    vitral("study", "run", "locality", "--model", "quick.py:Quik").refused(2, "Did you mean 'Quick'")
    vitral("study", "run", "locality", "--data", "nowhere").refused(2, "no data set or folder 'nowhere'")

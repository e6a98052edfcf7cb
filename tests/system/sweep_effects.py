"""The effect of each option of `vitral sweep`. A run takes a second."""

import pytest
import yaml
from effects import effect

from shell import paint
from vitral.tasks.sweep import sweep

RATES = (0.0002, 0.02)


def config(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


@effect("sweep", "run")
@effect("sweep", "lr")
@effect("sweep", "out")
def each_rate_is_a_run_with_the_same_settings_and_splits(vitral, quick_run, tmp_path):
    paint(tmp_path / "later", {"dark": 100, "light": 108}, count=3, seed=9)
    for image in (tmp_path / "later").glob("*/*"):  # these belong to no split yet
        image.rename(tmp_path / "photos" / image.parent.name / f"later-{image.name}")
    answer = vitral("sweep", "base", "--lr", *RATES, "--out", "swept", "--json").done()
    assert [one["lr"] for one in answer.json["rates"]] == list(RATES) and answer.json["best"] in RATES
    before = config(quick_run.folder)
    for rate in RATES:
        own = config(tmp_path / "swept" / f"lr-{rate:g}")
        changed = {name for name in before if own[name] != before[name]}
        assert own["lr"] == rate and changed <= {"lr", "splits"}
        rows = (tmp_path / "swept" / f"lr-{rate:g}" / "splits.csv").read_text()
        assert set((quick_run.folder / "splits.csv").read_text().splitlines()[1:]) <= set(rows.splitlines())
    # From the settings alone, and around the run's own rate.
    found = sweep(quick_run.folder / "config.yaml", out=tmp_path / "thirds")
    assert [one.lr for one in found.rates] == [
        pytest.approx(before["lr"] * factor, rel=0.02) for factor in (1 / 3, 1, 3)
    ]


@effect("sweep", "epochs")
@effect("sweep", "minutes")
@effect("sweep", "cache")
def the_length_of_each_run_can_be_set(vitral, quick_run, tmp_path):
    cache = tmp_path / "kept"
    vitral("sweep", "base", "--lr", 0.01, "--epochs", 3, "--out", "longer", "--cache", cache).done()
    assert config(tmp_path / "longer" / "lr-0.01")["epochs"] == 3 and any(cache.iterdir())
    vitral("sweep", "base", "--lr", 0.01, "--minutes", 0.25, "--out", "timed").done()
    assert config(tmp_path / "timed" / "lr-0.01")["epochs"] not in (2, 3)
    vitral("sweep", "base", "--minutes", 1, "--epochs", 1).refused(2, "leave out --epochs")


@effect("sweep", "json")
def json_says_what_the_table_says(vitral, quick_run):
    words = ("sweep", "base", "--lr", *RATES)
    printed, found = vitral(*words).done(), vitral(*words, "--json").done().json
    for one in found["rates"]:
        assert f"{one['lr']:g} {one['value']:.3f} ({one['interval'][0]:.3f}" in printed.printed
    assert f"Best on {found['n']} validation images: --lr {found['best']:g}" in printed.printed

"""`--help` tells all of it, `vitral` is quick to answer, and the lecture prints itself."""

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

import vitral as package
from vitral.base.config import options
from vitral.base.lookup import names

VERBS = names("cli")


def flag(name):
    return f"--{name.replace('_', '-')}"


@pytest.fixture
def help_of(vitral):
    """What `vitral VERB --help` prints, on one line and without its frames."""

    def read(verb, *words):
        answer = vitral(verb, *words, "--help")
        assert answer.code == 0 and answer.err == ""
        return " ".join(re.sub(r"[╭╮╰╯│─]", " ", answer.out).split())

    return read


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_tells_every_option_with_sentence_range_and_default(help_of, verb):
    settings = import_module(f"vitral.cli.{verb}").Options
    text = help_of(verb)
    for name, (kind, option) in options(settings).items():
        shown = name.upper() if option.positional else flag(name)
        assert f" {shown} " in text, shown
        assert option.sentence in text and option.sentence.endswith("."), shown
        if option.range:
            assert f"Range:{option.range}.".replace(" ", "") in text.replace(" ", ""), shown
        after = text[text.index(option.sentence) + len(option.sentence) :]
        if "by default" in option.sentence and getattr(settings, name, None) in (None, ()):
            rest = after.removeprefix(f" Range: {option.range}.")
            assert not rest.startswith(" (default:"), shown  # the sentence states it
            continue
        ends = "(default:" if hasattr(settings, name) or kind == tuple[Path, ...] else "(required)"
        assert after.removeprefix(" Range:").partition("(")[2].startswith(ends[1:]), shown


TYPES = {str: "STR", int: "INT", float: "FLOAT", Path: "PATH"}


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_tells_the_type_of_every_option(help_of, verb):
    text = help_of(verb)
    for name, (kind, option) in options(import_module(f"vitral.cli.{verb}").Options).items():
        if option.positional or kind is bool:
            continue
        if get_origin(kind) is Literal:
            expected = "{" + ",".join(get_args(kind)) + "}"
        else:
            inner = [part for part in get_args(kind) if part not in (type(None), ...)]
            expected = TYPES[inner[0] if inner else kind]
        after = text[text.index(f" {flag(name)} ", text.index(" options -h,")) + len(flag(name)) + 1 :].lstrip(" [")
        assert after.removeprefix("{None}|").startswith(expected), f"{flag(name)}: {after[:40]}"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_begins_with_its_usage_and_what_it_is_for(help_of, verb):
    text = help_of(verb)
    assert text.startswith(f"usage: vitral {verb} ")
    assert " ".join(import_module(f"vitral.cli.{verb}").__doc__.split())[:100] in text


def test_help_after_an_action_still_lists_the_action(help_of):
    assert help_of("lab", "start") == help_of("lab")
    assert help_of("study", "run", "locality") == help_of("study")


def test_help_shows_the_defaults_of_the_data_that_is_named(help_of):
    shapes, digits = help_of("train"), help_of("train", "--data", "digits")
    assert "(default: vit_nano_patch8_48)" in shapes
    assert "(default: vit_nano_patch2_8)" in digits and "(default: digits)" in digits


def test_help_lists_every_verb_with_its_sentence(terminal):
    for words in (("--help",), ("-h",), ("help",)):
        answer = terminal(*words).done()
        for verb in VERBS:
            (line,) = [line for line in answer.out.splitlines() if line.startswith(f"  {verb} ")]
            assert len(line.split()) > 4 and line.endswith(".")
        assert answer.err == ""


def test_the_version_is_the_packages(vitral):
    assert vitral("--version").done().out == f"vitral {package.base.provenance.installed_version('vitral')}\n"


def imported_by(environment, *words):
    """The modules that a command imports."""
    script = (
        "import sys, json\nfrom vitral.cli import main\n"
        f"code = main({list(words)!r})\n"
        "print(json.dumps([code, sorted(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


HEAVY = {"torch", "numpy", "PIL", "matplotlib", "tyro", "rich", "sklearn", "pydantic", "yaml", "jinja2"}


@pytest.mark.parametrize("words", [["--help"], [], ["tran"], ["--version"]])
def test_help_imports_nothing_heavy(isolated, words):
    _, modules = imported_by(isolated, *words)
    assert not HEAVY & set(modules)


def test_importing_the_package_imports_nothing_heavy(isolated):
    script = "import sys, vitral; dir(vitral); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], env=isolated, capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_the_lecture_prints_its_seven_files_in_reading_order(isolated):
    words = [sys.executable, "-m", "vitral.nn"]
    printed = subprocess.run(words, env=isolated, capture_output=True, text=True, check=True).stdout
    order = ("patch", "position", "attention", "mlp", "block", "head", "vit")
    files = [(Path(package.nn.__file__).parent / f"{name}.py").read_text() for name in order]
    places = [printed.index(file) for file in files]
    assert places == sorted(places) and len(package.nn.READING_ORDER) == 7
    assert printed.replace("\n", "") == "".join(files).replace("\n", "")
    assert printed.count("\n") <= 450

"""The README's numbers, from `results/*.json`: `python -m benchmarks.tables` writes them between its two marks."""

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
START = "<!-- numbers: made by `python -m benchmarks.tables` from benchmarks/results -->"
END = "<!-- end of numbers -->"


def read(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def share(value: float) -> str:
    return f"{value:.1%}"


def numbers() -> str:
    """Markdown tables of what was measured, with n and the machine."""
    demo, digits, check, speed, loop, start = map(read, ("demo", "digits", "check", "speed", "loop", "start"))
    machine = f"{demo['machine']['cpu']}, {demo['machine']['cores']} cores, PyTorch {demo['versions']['torch']}"
    rows = [
        f"Measured on {machine}; intervals are 95 %. `make bench` measures them again.",
        "",
        "| `vitral train` | test accuracy | time |",
        "|---|---|---|",
    ]
    for run in demo["runs"]:
        low, high = run["interval"]
        rows.append(
            f"| `shapes`, seed {run['seed']} | {share(run['test_accuracy'])} ({share(low)} to {share(high)}, "
            f"n = {run['n']:,}) | {run['seconds']:.0f} s |"
        )
    for run in digits["runs"]:
        low, high = run["interval"]
        rows.append(
            f"| `digits`, split {run['seed']} | {share(run['test_accuracy'])} ({share(low)} to {share(high)}, "
            f"n = {run['n']:,}) | {run['seconds']:.0f} s |"
        )
    rows += ["", "| does `shapes` ask for more than its parts? | accuracy | must be |", "|---|---|---|"]
    for finding in check["findings"]:
        verdict = "" if finding["holds"] else ": **it is not**"
        rows.append(
            f"| {finding['name']} | {share(finding['accuracy'])} ({share(finding['low'])} to {share(finding['high'])}, "
            f"n = {finding['n']:,}) | {finding['rule']}{verdict} |"
        )
    rows += ["", "| against timm, same shape and weights, eager | timm's time / ours | rounds |", "|---|---|---|"]
    for pair in speed["results"]:
        low, high = pair["interval"]
        rows.append(
            f"| {pair['shape']}, batch {pair['batch']}, {pair['what']} | {pair['ratio']:.2f} ({low:.2f} to {high:.2f}) "
            f"| {pair['rounds']} |"
        )
    rows += [
        "",
        f"The whole `vitral train` loop runs at {loop['ratio']:.2f} of its bare step's speed; `vitral --help` takes "
        f"{start['median_s']:.2f} s (median of {start['rounds']}).",
    ]
    return "\n".join(rows)


def with_numbers(readme: str) -> str:
    """The README with its numbers as the results have them."""
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n\n{numbers()}\n\n{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_numbers(path.read_text(encoding="utf-8")), encoding="utf-8")

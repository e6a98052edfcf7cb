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
    tables = {"demo": trained, "digits": trained, "check": asked, "trials": tried, "speed": compared}
    found = {name: table for name, table in tables.items() if (RESULTS / f"{name}.json").is_file()}
    origin = read(next(iter(found)))
    machine = f"{origin['machine']['cpu']}, {origin['machine']['cores']} cores, PyTorch {origin['versions']['torch']}"
    parts = [
        f"Measured on {machine}; intervals are 95 %. `make bench` measures them again. The machine is shared and its "
        "speed drifts by half from one minute to the next: seconds say little, ratios of interleaved pairs more."
    ]
    parts += ["\n".join(table(name, read(name))) for name, table in found.items()]
    loop, start = read("loop"), read("start")
    parts.append(
        f"The whole `vitral train` loop ran at {loop['ratio']:.2f} of its bare step's speed "
        f"(pairs: {len(loop['pairs'])}, above 1 is drift). "
        f"`vitral --help` takes {start['median_s']:.2f} s (median of {start['rounds']})."
    )
    return "\n\n".join(parts)


def accuracy(record: dict) -> str:
    """With its interval and n."""
    value = record.get("test_accuracy", record.get("accuracy"))
    low, high = record["interval"] if "interval" in record else (record["low"], record["high"])
    return f"{share(value)} ({share(low)} to {share(high)}, n = {record['n']:,})"


def trained(name: str, record: dict) -> list[str]:
    data, what = ("shapes", "seed") if name == "demo" else ("digits", "split")
    rows = [f"| `vitral train --data {data}` | test accuracy | time |", "|---|---|---|"]
    rows += [f"| {what} {run['seed']} | {accuracy(run)} | {run['seconds']:.0f} s |" for run in record["runs"]]
    mean = sum(run["test_accuracy"] for run in record["runs"]) / len(record["runs"])
    return [*rows, f"| mean of {len(record['runs'])} | {share(mean)} | |"]


def asked(name: str, record: dict) -> list[str]:
    rows = ["| does `shapes` ask for more than its parts? | accuracy | must be |", "|---|---|---|"]
    for finding in record["findings"]:
        verdict = "" if finding["holds"] else ": **it is not**"
        rows.append(f"| {finding['name']} | {accuracy(finding)} | {finding['rule']}{verdict} |")
    return rows


def tried(name: str, record: dict) -> list[str]:
    rows = ["| the demo, one thing changed, same steps | validation accuracy |", "|---|---|"]
    return rows + [f"| {arm['arm']} | {accuracy(arm)} |" for arm in record["results"]]


def compared(name: str, record: dict) -> list[str]:
    rows = ["| against timm, same shape and weights, eager | timm's time / ours | rounds |", "|---|---|---|"]
    for pair in record["results"]:
        low, high = pair["interval"]
        ratio = f"{pair['ratio']:.2f} ({low:.2f} to {high:.2f})"
        rows.append(f"| {pair['shape']}, batch {pair['batch']}, {pair['what']} | {ratio} | {pair['rounds']} |")
    return rows


def with_numbers(readme: str) -> str:
    """The README with its numbers as the results have them."""
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n\n{numbers()}\n\n{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_numbers(path.read_text(encoding="utf-8")), encoding="utf-8")

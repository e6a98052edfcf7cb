"""The numbers in the docs, from `results/*.json`: `python -m benchmarks.tables` writes them between two marks."""

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
    tables |= {"family": swins, "small": few}
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
    words = [f"{pair['shape']}, batch {pair['batch']}" for pair in record["results"]]
    return raced("against timm, same shape and weights, eager | timm's time / ours", words, record["results"])


def swins(name: str, record: dict) -> list[str]:
    share_of = f"linear maps are {record['linear_share']:.0%} of our forward pass"
    head = f"Swin-T, batch {record['results'][0]['batch']}; {share_of} | their time / ours"
    return raced(head, [pair["peer"] for pair in record["results"]], record["results"])


def raced(head: str, words: list[str], pairs: list[dict]) -> list[str]:
    rows = [f"| {head} | rounds |", "|---|---|---|"]
    for word, pair in zip(words, pairs):
        low, high = pair["interval"]
        rows.append(f"| {word}, {pair['what']} | {pair['ratio']:.2f} ({low:.2f} to {high:.2f}) | {pair['rounds']} |")
    return rows


def few(name: str, record: dict) -> list[str]:
    arms = list(dict.fromkeys(one["arm"] for one in record["results"]))
    rows = ["| ten digits, so many images a class (3 seeds) | " + " | ".join(arms) + " |", "|---|" + "---|" * len(arms)]
    for count in record["counts"]:
        found = {one["arm"]: one for one in record["results"] if one["per_class"] == count}
        rows.append(f"| {count} | " + " | ".join(share(found[arm]["accuracy"]) for arm in arms) + " |")
    return rows


QUESTIONS = {
    "its place": ("auroc", "average_precision", "iou", "mass_ratio", "pointing_game"),
    "the answer": ("class_specificity", "counterfactual", "deletion", "exact_deletion", "insertion"),
    "the map itself": ("agreement", "randomisation", "stability"),
}


def scored() -> str:
    """Every method by every metric, a table a question, best first by AUROC; and what watching and rollout cost."""
    record = read("scores")
    scores = record["scores"]
    arrows = {"higher": " ↑", "lower": " ↓", "neither": ""}
    metrics = {one["metric"]: one["better"] for one in scores}
    found = {(one["method"], one["metric"]): one for one in scores}
    names = dict.fromkeys(one["method"] for one in scores)
    control = {one["method"]: one["control"] for one in scores}
    order = sorted(names, key=lambda name: (control[name], -found[name, "auroc"]["mean"]))
    assert sorted(metric for asked in QUESTIONS.values() for metric in asked) == sorted(metrics)
    tables = []
    for question, asked in QUESTIONS.items():
        head = " | ".join(f"{metric}{arrows[metrics[metric]]}" for metric in asked)
        lines = [f"| {question} | {head} |", "|---|" + "---|" * len(asked)]
        for name in order:
            cells = [cell(found[name, metric]) for metric in asked]
            lines.append(f"| {f'*{name}*' if control[name] else name} | " + " | ".join(cells) + " |")
        tables.append("\n".join(lines))
    judged = ", ".join(share(run["test_accuracy"]) for run in record["runs"])
    timed = record["timed"]
    words = (
        f"Three models of `vitral train --data cued --seed S` ({judged} of {record['runs'][0]['n']:,} test images "
        f"right), {record['images']} images each that they answer right; the mean over the models, ± half its 95 % "
        "interval over them (Student's t, n = 3). *Italic* are the controls; † did not beat every control in every "
        f"model. {timed['methods']} methods, 4 controls and {len(timed['metrics'])} of these metrics "
        f"({', '.join(timed['metrics'])}) on {record['images']} images take {timed['seconds']:.0f} s on "
        f"{record['machine']['cores']} cores."
    )
    return "\n\n".join([words, *tables, cost()])


def cell(one: dict) -> str:
    mark = "†" if one["beats_controls"] is not None and one["beats_controls"] < len(one["values"]) else ""
    return f"{round(one['mean'], 2) + 0.0:.2f}&nbsp;±&nbsp;{(one['high'] - one['low']) / 2:.2f}{mark}"


def cost() -> str:
    watching, rolling = read("watching"), read("rolling")
    memory = watching["memory_bytes"]
    plain = memory["plain forward"]
    low, high = watching["pairs"]["interval"]
    lines = ["| ViT-S, 4,097 tokens, one image | peak memory of the process | over a plain forward |", "|---|---|---|"]
    lines += [f"| {kind} | {peak / 2**20:,.0f} MiB | {peak / plain:.2f}x |" for kind, peak in memory.items()]
    seconds = rolling["seconds"]
    mebi = {name: rolling[f"{name}_bytes"] / 2**20 for name in ("extra", "q_and_k", "chunk")}
    paged = rolling["extra_bytes_paged"] / 2**20
    watched = (
        f"Watched, it takes {1 / watching['pairs']['ratio']:.2f} of a plain forward's time ({1 / high:.2f} to "
        f"{1 / low:.2f}, {watching['pairs']['rounds']} interleaved pairs)."
    )
    rolled = (
        f"Rollout of CLS on {rolling['tokens']:,} tokens and {rolling['heads']} heads: {seconds['rows']:.1f} s row by "
        f"row, {seconds['whole matrices']:.1f} s by whole matrices ({rolling['speedup']:.1f} times), "
        f"{seconds['forming the weights alone']:.1f} s to form the weights alone, which no exact rollout can save. It "
        f"keeps q and k of all layers, {mebi['q_and_k']:.0f} MiB, and a chunk of weights, {mebi['chunk']:.0f} MiB; "
        f"the process's peak is {mebi['extra']:.0f} MiB above a plain forward's with glibc's default allocator, which "
        f"counts the holes it keeps, and {paged:.0f} MiB where every tensor has pages of its own."
    )
    return "\n\n".join(["\n".join(lines), watched, rolled])


PAGES = {"README.md": numbers, "docs/believe.md": scored}


def with_numbers(page: str, made: str) -> str:
    """A page with what was made between its two marks."""
    before, rest = page.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n\n{made}\n\n{END}{after}"


if __name__ == "__main__":
    for name, make in PAGES.items():
        path = ROOT / name
        path.write_text(with_numbers(path.read_text(encoding="utf-8"), make()), encoding="utf-8")

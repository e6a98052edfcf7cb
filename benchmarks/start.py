"""How long `vitral --help` takes, as a process."""

import statistics
import subprocess
import sys
import time

ROUNDS = 20


def run() -> dict[str, object]:
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "vitral", "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - start)
    print(f"   median {statistics.median(seconds):.3f} s, slowest {max(seconds):.3f} s", flush=True)
    return {"rounds": ROUNDS, "median_s": round(statistics.median(seconds), 4), "slowest_s": round(max(seconds), 4)}

"""`python -m benchmarks [NAME...]`: run all, or some, and write `results/NAME.json`."""

import json
import sys
from importlib import import_module
from pathlib import Path

from vitral.base.provenance import provenance

NAMES = (
    "speed",
    "loop",
    "start",
    "demo",
    "digits",
    "check",
    "trials",
    "any_vit",
    "watching",
    "rolling",
    "scores",
    "random_orders",
    "orders_on_cued",
    "explain_speed",
    "small",
    "small_folders",
    "strangers",
    "decoding",
    "loading",
    "kills",
    "checkpoints",
    "fashion_mnist",
    "adapt",
    "family",
    "high_resolution",
    "ways",
    "merged_accuracy",
    "tiles",
    "scenes",
    "cutouts",
    "augmentation",
    "exported",
    "exported_maps",
    "explorer",
    "code_paths",
    "code_size",
)
RESULTS = Path(__file__).parent / "results"

for name in sys.argv[1:] or NAMES:
    if name not in NAMES:
        sys.exit(f"There is no benchmark {name!r}. Known: {', '.join(NAMES)}.")
    print(f"== {name}", flush=True)
    module = import_module(f"benchmarks.{name}")
    found = module.run()
    if found is None:  # a data set that it needs is not installed, which it has said
        continue
    record = {"benchmark": name, "what": (module.__doc__ or "").splitlines()[0], **found}
    origin = provenance()
    record |= {"machine": origin["machine"], "versions": origin["versions"], "time": origin["time"]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"   -> benchmarks/results/{name}.json", flush=True)

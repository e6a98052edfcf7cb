"""Train the lab's model, the lecture's ViT on easy shapes, into `src/vitral/lab/model/`.

`python -m benchmarks.lab_model`: about two minutes. Half precision is enough for it and makes the file small.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from vitral.store.model import load_model, save_model

DATA = "shapes:size=48,n=40000,smallest=0.34,largest=0.42,rotation=5,contrast=0.7"
CODE = """
from vitral import VisionTransformer

def lecture(num_classes, img_size):
    return VisionTransformer(img_size, 8, 3, num_classes, embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0)
"""
HOME = Path(__file__).parents[1] / "src/vitral/lab/model"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "lecture.py").write_text(CODE)
        words = ["train", "--model", "lecture.py:lecture", "--data", DATA, "--epochs", "3", "--out", "run"]
        subprocess.run([sys.executable, "-m", "vitral", *words], cwd=folder, check=True)
        model = load_model(Path(folder) / "run")
        provenance = model.provenance
        del model.code
        save_model(model.half(), HOME, provenance)


if __name__ == "__main__":
    main()

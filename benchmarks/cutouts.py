"""Real-shaped masks: cut-outs of Debian's `openclipart-png` on scikit-learn's photographs and on each other, 128 px.

The pictures' transparency is their exact mask. Training, validation and test scenes have no cut-out in common, and take
their backgrounds from other halves of the photographs. Two of our models beside a random forest on local features
(scikit-image: Gaussian-smoothed intensity, edges and texture at several scales, of each colour). Without the package
nothing runs, and a sentence says so. The pictures are written to a temporary folder, never into the project.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.command import vitral
from benchmarks.scenes import tallied
from vitral.data.image import load_image

SOURCE = Path("/usr/share/openclipart/png")
CATEGORIES = {
    "bird": "animals/birds",
    "bug": "animals/bugs",
    "mammal": "animals/mammals",
    "fish": "animals/fish",
    "fruit": "food/fruit",
    "flower": "plants/flowers",
    "vehicle": "transportation/vehicles",
    "house": "buildings/homes",
}
COUNTS = {"train": 4000, "val": 300, "test": 300}
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # of the cut-outs of each category
SIZE, FEWEST, MOST = 128, 2, 5
SIDES = 0.25, 0.55  # of the scene's side
COVERED = 0.15, 0.95  # a cut-out covers at least so much of its box (thin lines say little), and is no full rectangle
MODELS = {
    "resnet, pyramid": {"model": "resnet_nano_128", "epochs": "6"},
    "vit, detail": {"model": "vit_nano_patch8_128", "epochs": "6"},
}
FOREST_SCENES, FOREST_PIXELS = 400, 60_000


def cut_outs() -> dict[str, list[Image.Image]]:
    """The pictures of each category that have transparency, cropped to what is opaque."""
    found: dict[str, list[Image.Image]] = {}
    for name, place in CATEGORIES.items():
        found[name] = []
        for path in sorted((SOURCE / place).rglob("*.png")):
            image = Image.open(path).convert("RGBA")
            box = image.getchannel("A").point(lambda value: 255 * (value > 127)).getbbox()
            if box is None or min(box[2] - box[0], box[3] - box[1]) < 40:
                continue
            image = image.crop(box)
            covered = float((np.asarray(image.getchannel("A")) > 127).mean())
            if COVERED[0] <= covered <= COVERED[1]:
                found[name].append(image)
    return found


def backgrounds() -> dict[str, list[np.ndarray]]:
    """Two photographs: the left 60 % train, the next 15 % validate, the right 25 % test."""
    from sklearn.datasets import load_sample_images

    found: dict[str, list[np.ndarray]] = {split: [] for split in COUNTS}
    for photo in load_sample_images().images:
        width = photo.shape[1]
        for split, (start, end) in zip(COUNTS, ((0.0, 0.6), (0.55, 0.75), (0.75, 1.0))):
            found[split].append(photo[:, int(start * width) : int(end * width)])
    return found


def write_folder(folder: Path, seed: int = 0) -> dict[str, dict[str, int]]:
    """Write `train/`, `val/` and `test/` with `images/` and `masks/`; how many cut-outs each split has."""
    rng = np.random.default_rng(seed)
    pictures, photos = cut_outs(), backgrounds()
    (folder / "classes.txt").parent.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("\n".join(["background", *CATEGORIES]) + "\n", encoding="utf-8")
    used: dict[str, dict[str, int]] = {}
    parts: dict[str, dict[str, list[Image.Image]]] = {split: {} for split in COUNTS}
    for name, own in pictures.items():
        order, start = rng.permutation(len(own)), 0.0
        for split, share in SHARES.items():
            chosen = order[round(start * len(own)) : round((start + share) * len(own))]
            parts[split][name] = [own[index] for index in chosen]
            start += share
    for split, count in COUNTS.items():
        used[split] = {name: len(own) for name, own in parts[split].items()}
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(count):
            image, mask = scene(rng, parts[split], photos[split])
            image.save(folder / split / "images" / f"{number:05}.png")
            mask.save(folder / split / "masks" / f"{number:05}.png")
    return used


def scene(
    rng: np.random.Generator, pictures: dict[str, list[Image.Image]], photos: list[np.ndarray]
) -> tuple[Image.Image, Image.Image]:
    """A crop of a photograph with cut-outs pasted on it, and the class of each pixel."""
    photo = photos[rng.integers(len(photos))]
    side = int(rng.uniform(0.5, 1.0) * min(photo.shape[:2]))
    top, left = (int(rng.integers(0, length - side + 1)) for length in photo.shape[:2])
    image = Image.fromarray(photo[top : top + side, left : left + side]).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    mask = Image.new("L", (SIZE, SIZE), 0)
    for _ in range(rng.integers(FEWEST, MOST + 1)):
        label = int(rng.integers(len(pictures)))
        own = list(pictures.values())[label]
        picture = own[rng.integers(len(own))]
        scale = rng.uniform(*SIDES) * SIZE / max(picture.size)
        picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        place = tuple(int(rng.integers(0, SIZE - length + 1)) for length in picture.size)
        image.paste(picture, place, picture)
        opaque = picture.getchannel("A").point(lambda value: 255 * (value > 127))
        mask.paste(label + 1, (*place, place[0] + picture.width, place[1] + picture.height), opaque)
    return image, mask


def forest(folder: Path) -> float:
    """The mean IoU of a random forest on local features, on the test scenes."""
    from skimage.feature import multiscale_basic_features
    from sklearn.ensemble import RandomForestClassifier

    def features(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        files = sorted((folder / split / "images").iterdir())[:count]
        own = [
            multiscale_basic_features(load_image(file), sigma_max=16, channel_axis=-1).astype(np.float32)
            for file in files
        ]
        masks = [np.array(Image.open(folder / split / "masks" / file.name)) for file in files]
        return np.stack(own), np.stack(masks)

    x, y = features("train", FOREST_SCENES)
    chosen = np.random.default_rng(0).choice(y.size, FOREST_PIXELS, replace=False)
    trees = RandomForestClassifier(100, min_samples_leaf=3, class_weight="balanced_subsample", n_jobs=2, random_state=0)
    trees.fit(x.reshape(-1, x.shape[-1])[chosen], y.ravel()[chosen])
    del x, y
    x, y = features("test", COUNTS["test"])
    chances = trees.predict_proba(x.reshape(-1, x.shape[-1])).reshape(*y.shape, -1)
    return tallied(chances, y, ("background", *CATEGORIES))


def run() -> dict[str, object]:
    if not SOURCE.is_dir():
        print(f"{SOURCE} is not there: apt-get install openclipart-png. Nothing was run.")
        raise SystemExit(0)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "cutouts"
        used = write_folder(folder)
        print(f"   cut-outs: {used}", flush=True)
        found: dict[str, object] = {}
        for name, settings in MODELS.items():
            options = [word for key, value in settings.items() for word in (f"--{key}", value)]
            result = vitral(
                *("train", "--data", str(folder), *options, "--batch-size", "16", "--augment", "shift"),
                *("--label-smoothing", "0", "--out", str(Path(home) / name.split(",")[0])),
            )
            found[name] = {"settings": settings, "seconds": result["seconds"]} | {
                key: result["figures"][key] for key in ("mIoU", "interval", "mIoU_with_background", "boundary_F")
            }
            print(f"   {name}: mean IoU {result['figures']['mIoU']:.1%} in {result['seconds']:.0f} s", flush=True)
        found["random forest on local features"] = {"mIoU": forest(folder)}
        print(f"   random forest: mean IoU {found['random forest on local features']['mIoU']:.1%}", flush=True)
    return {"cut_outs": used, "scenes": COUNTS, "size": SIZE, "models": found}

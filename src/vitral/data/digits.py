"""`digits`: 1,797 real scans of handwritten digits, 8 x 8 pixels, which ship with scikit-learn.

From the UCI repository (Alpaydin & Kaynak 1998).
"""

import numpy as np

from vitral.base.errors import ConfigError, Failure
from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import Dataset, Split, SplitName, stratified


def digits(seed: int = 0) -> Dataset:
    """Ten classes; 64 % for training, 16 % for validation, 20 % for testing; each `seed` gives another division.

    Raises `ConfigError` for a negative seed; loading a split raises `Failure` where scikit-learn is not installed.
    """
    if seed < 0:
        raise ConfigError(f"digits:seed={seed} is out of range: it must be at least 0.")

    def load(name: SplitName) -> Split:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise Failure("The digits ship with scikit-learn: pip install 'vitral[digits]'.") from error
        scans = load_digits()
        grey = np.round(scans.images * (255 / 16)).astype(np.uint8)  # the scans have 17 levels, 0 to 16
        rest, test = stratified(scans.target, (0.8, 0.2), seed)
        train, val = (rest[part] for part in stratified(scans.target[rest], (0.8, 0.2), seed))
        chosen = {"train": train, "val": val, "test": test}[name]
        return Split(np.repeat(grey[chosen][..., None], 3, axis=3), scans.target[chosen].astype(np.int64))

    return Dataset("digits", tuple("0123456789"), Preprocessing(size=(8, 8)), load)

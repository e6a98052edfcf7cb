"""`digits`: 1,797 real scans of handwritten digits, 8 x 8 pixels, which ship with scikit-learn.

From the UCI repository (Alpaydin & Kaynak 1998).
"""

import numpy as np
from jaxtyping import Int

from vitral.base.errors import ConfigError, Failure
from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import Dataset, Split
from vitral.data.split_table import SplitName


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


def stratified(labels: Int[np.ndarray, " n"], fractions: tuple[float, ...], seed: int) -> list[Int[np.ndarray, " m"]]:
    """Disjoint index sets that together hold every item; each class is divided in the given fractions.

    >>> [part.tolist() for part in stratified(np.array([0, 0, 0, 1, 1, 1]), (2 / 3, 1 / 3), seed=0)]
    [[0, 2, 4, 5], [1, 3]]
    """
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in fractions]
    # Rounding cumulative fractions, rather than each one, uses every member of a small class exactly once.
    cuts = np.cumsum(fractions)[:-1]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        for part, chosen in zip(parts, np.split(members, np.round(cuts * len(members)).astype(int))):
            part.append(chosen)
    return [np.sort(np.concatenate(part)) for part in parts]

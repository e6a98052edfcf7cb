"""Features of images as a `.npy` or `.parquet` file, which is whole or does not exist.

Axes:  n images   d features
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vitral.base.errors import ConfigError, UsageError
from vitral.base.files import writing_to

AT_ONCE = 4096  # images in a row group


def check_suffix(path: Path) -> None:
    """Raise `UsageError` for another kind of file, `ConfigError` if the library that writes this kind is missing."""
    if path.suffix not in (".npy", ".parquet"):
        raise UsageError(f"{path} must end in .npy or .parquet.")
    if path.suffix == ".parquet":
        pyarrow()


def pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            "Parquet files need pyarrow: pip install 'vitral[parquet]'. A .npy file needs no other library."
        ) from error
    return pyarrow


def write_embeddings(path: Path, features: Float[np.ndarray, "n d"], images: Sequence[str]) -> None:
    """Write the features, one row per image, under a temporary name, and rename the file."""
    temporary = path.with_name(f".{path.name}.writing")
    with writing_to(path):
        try:
            (write_parquet if path.suffix == ".parquet" else write_npy)(temporary, features, images)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_npy(path: Path, features: Float[np.ndarray, "n d"], images: Sequence[str]) -> None:
    with path.open("wb") as file:
        np.save(file, np.asarray(features, np.float32))


def write_parquet(path: Path, features: Float[np.ndarray, "n d"], images: Sequence[str]) -> None:
    """The columns `image` and `features`, a list of fixed length, in row groups."""
    pa = pyarrow()
    count = features.shape[1]
    schema = pa.schema([("image", pa.string()), ("features", pa.list_(pa.float32(), count))])
    with pa.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, len(images), AT_ONCE):
            some = np.asarray(features[start : start + AT_ONCE], np.float32)
            values = pa.FixedSizeListArray.from_arrays(pa.array(some.reshape(-1)), count)
            # A name that is not UTF-8 is spelled with its replacement; the list beside the file has its bytes.
            names = [
                name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in images[start:][:AT_ONCE]
            ]
            writer.write_table(pa.Table.from_arrays([pa.array(names, pa.string()), values], schema=schema))

"""Numbers: the outputs are the predicted numbers themselves, in the unit of the data.

Axes:  b n images   k numbers
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from vitral.base.answer import Answered, Loss, RowTally
from vitral.base.intervals import bootstrap, finite_or_none

if TYPE_CHECKING:
    from torch import Tensor

    from vitral.base.record import ModelRecord


RANGES = 5  # of a number, to show examples of each


@dataclass(frozen=True)
class NumberFigures:
    """The figures of numbers: `values` are predicted, `labels` the right ones, both in the unit of the data."""

    values: Float[np.ndarray, "n k"]
    labels: Float[np.ndarray, "n k"]
    note: str = ""

    @property
    def errors(self) -> Float[np.ndarray, "n k"]:
        return self.values.astype(np.float64) - self.labels

    @property
    def mae(self) -> Float[np.ndarray, " k"]:
        """The mean absolute error of each number, in its unit."""
        return np.abs(self.errors).mean(axis=0)

    @property
    def rmse(self) -> Float[np.ndarray, " k"]:
        """The root of the mean squared error of each number, in its unit."""
        return np.sqrt(np.square(self.errors).mean(axis=0))

    @property
    def r2(self) -> Float[np.ndarray, " k"]:
        """The share of each number's variance that is explained; NaN where all images have the same number."""
        return r_squared(self.values, self.labels)

    @property
    def value(self) -> float:
        """The mean R² of the numbers that vary; minus infinity for values that are not finite."""
        present = self.r2[~np.isnan(self.r2)]
        return float(present.mean()) if len(present) else float("nan")

    @property
    def loss(self) -> float:
        """Mean squared error over the variance of these images' numbers, averaged over the numbers."""
        spread = np.square(self.labels - self.labels.mean(axis=0)).mean(axis=0)
        return float((np.square(self.errors).mean(axis=0) / np.where(spread > 0, spread, 1)).mean())

    @property
    def score(self) -> tuple[float, float]:
        """The smallest loss."""
        return -self.loss, -float(self.mae.mean())

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % bootstrap interval of R² over images."""
        return bootstrap(self.value_on, len(self.labels))

    def value_on(self, images: Int[np.ndarray, " m"]) -> float:
        return NumberFigures(self.values[images], self.labels[images]).value

    @cached_property
    def mae_intervals(self) -> list[tuple[float, float]]:
        """The 95 % bootstrap interval of each number's mean absolute error."""
        errors = np.abs(self.errors)
        return [bootstrap(lambda chosen, own=own: float(own[chosen].mean()), len(errors)) for own in errors.T]

    def headline(self, names: Sequence[str]) -> str:
        return f"R² {self.value:.2f}" if len(names) > 1 else f"{names[0]} off by {plain(self.mae[0])} on average"

    def summary(self, names: Sequence[str]) -> str:
        if len(names) == 1:
            ((low, high),) = self.mae_intervals
            mae = f"MAE {plain(self.mae[0])} (95% interval {plain(low)} to {plain(high)}), RMSE {plain(self.rmse[0])}, "
        else:
            mae = ""
        low, high = self.interval
        mean = "" if len(names) == 1 else "mean "
        return f"{mae}{mean}R² {self.value:.3f} (95% interval {low:.3f} to {high:.3f}), loss {self.loss:.3f}"

    def baseline(self, names: Sequence[str]) -> str:
        guesses = [
            f"{name} {plain(mean)} (MAE {plain(mae)})"
            for name, mean, mae in zip(names, self.labels.mean(axis=0), self.mean_mae)
        ]
        return f"always the mean of these images' numbers, R² 0: {', '.join(guesses)}"

    @property
    def mean_mae(self) -> Float[np.ndarray, " k"]:
        """The mean absolute error of always answering the mean."""
        return np.abs(self.labels - self.labels.mean(axis=0)).mean(axis=0)

    def lines(self, names: Sequence[str]) -> list[str]:
        rows = zip(names, self.mae, self.mae_intervals, self.rmse, self.r2, self.mean_mae)
        return [
            f"{name:<16} MAE {plain(mae)} (95% interval {plain(low)} to {plain(high)})   RMSE {plain(rmse)}   "
            f"R² {r2:.3f}   MAE of the mean {plain(mean)}"
            for name, mae, (low, high), rmse, r2, mean in rows
        ]

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        columns = {"MAE": self.mae, "RMSE": self.rmse, "R2": self.r2}
        columns |= {"mean": self.labels.mean(axis=0), "MAE_of_mean": self.mean_mae}
        per_number = {
            name: {key: finite_or_none(column[index]) for key, column in columns.items()}
            | {"MAE_interval": [finite_or_none(end) for end in self.mae_intervals[index]]}
            for index, name in enumerate(names)
        }
        return {
            "R2": finite_or_none(self.value),
            "interval": [finite_or_none(end) for end in self.interval],
            "loss": self.loss,
            "per_number": per_number,
        }


def r_squared(values: np.ndarray, labels: np.ndarray) -> Float[np.ndarray, " k"]:
    """1 - residual over total sum of squares, per column; not a number where the right numbers do not vary."""
    total = np.square(labels - labels.mean(axis=0)).sum(axis=0)
    residual = np.square(values.astype(np.float64) - labels).sum(axis=0)
    return np.where(total > 0, 1 - residual / np.where(total > 0, total, 1), np.nan)


def plain(value: float) -> str:
    """A number with four digits that count, without an exponent where it is readable.

    >>> plain(1234.567), plain(0.00123456), plain(12.0)
    ('1,235', '0.001235', '12')
    """
    if not np.isfinite(value):
        return str(value)
    if abs(value) >= 1e7 or 0 < abs(value) < 1e-4:
        return f"{value:.3e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


class Numbers:
    """See `vitral.base.answer.Answer`."""

    task: Literal["numbers"] = "numbers"
    measure = "R2"
    unit = "in the number's unit"
    per_output = "number"

    def of_model(self, record: "ModelRecord") -> "Numbers":
        return self

    def values(self, output: "Tensor") -> "Tensor":
        return output

    def loss(
        self,
        label_smoothing: float = 0.0,
        targets: np.ndarray | None = None,
        balanced: bool = False,
        dice: float = 0.0,
    ) -> Loss:
        """Mean squared error of numbers divided by their deviation in the training data, so that every one counts."""
        import torch

        assert targets is not None, "the loss of numbers needs those of the training images"
        spread = torch.from_numpy(deviation(targets))

        def normalised_squared_error(output: "Tensor", labels: "Tensor") -> "Tensor":
            error = (output.double() - labels) / spread.to(output.device)
            return error.square().mean().float()

        return Loss(normalised_squared_error)

    def correct(self, output: "Tensor", targets: "Tensor") -> int | None:
        return None

    def tally(self, record: "ModelRecord") -> RowTally:
        return RowTally(self, record.thresholds)

    def judge(
        self, values: Float[np.ndarray, "n k"], labels: np.ndarray, thresholds: Sequence[float] | None, note: str
    ) -> NumberFigures:
        return NumberFigures(values, labels, note)

    def groups(self, labels: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        order = labels[:, 0].argsort(kind="stable")
        parts = [part for part in np.array_split(order, RANGES) if len(part)]
        return {f"{plain(labels[part[0], 0])} to {plain(labels[part[-1], 0])}": np.sort(part) for part in parts}

    def describe(self, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        columns = dict(zip(names, labels.T))
        found = {
            name: {"min": float(own.min()), "mean": float(own.mean()), "max": float(own.max()), "std": float(own.std())}
            for name, own in columns.items()
        }
        return {"task": self.task, "numbers": found}

    def target(self, output: "Tensor") -> "Tensor":
        """The first number: which of several numbers is the largest says nothing."""
        return output.new_zeros(len(output)).long()

    def score(self, output: "Tensor") -> Float[np.ndarray, "b k"]:
        found: np.ndarray = output.double().cpu().numpy()
        return found

    def score_name(self, name: str) -> str:
        return f"the predicted {name}"

    def evidence(self, name: str) -> str:
        return f"the patches that raise {self.score_name(name)}"

    def show_score(self, value: float) -> str:
        return plain(value)

    def least(self, scores: np.ndarray) -> float:
        """What single precision can still tell apart: nothing says how large a change of the number counts."""
        return 1e-5 * float(np.abs(scores).max(initial=0.0))

    def rounding(self, value: float) -> float:
        return 1e-6 * abs(value)

    def text(self, prediction: Answered, top: int | None) -> str:
        return ", ".join(f"{name} {plain(value)}" for name, value in zip(prediction.names, prediction.values))

    def short(self, prediction: Answered) -> str:
        return self.text(prediction, None)

    def to_json(self, prediction: Answered, top: int | None) -> dict[str, Any]:
        return {"task": self.task, "numbers": dict(zip(prediction.names, prediction.values))}

    def to_csv_row(self, prediction: Answered) -> dict[str, str | float]:
        return dict(zip(prediction.names, prediction.values))


def deviation(targets: np.ndarray) -> Float[np.ndarray, " k"]:
    """The standard deviation of each number, 1 where it does not vary."""
    spread = np.asarray(targets, np.float64).std(axis=0)
    return np.where(spread > 0, spread, 1.0)


numbers = Numbers()

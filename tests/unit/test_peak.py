"""The peak of the machine is the best of several products of matrices that take long enough to be timed."""

import pytest

from vitral.training import peak
from vitral.training.peak import SMALLEST, measure_peak


@pytest.mark.parametrize(("large", "size"), [(0, SMALLEST), (500, 512), (4000, 4096), (10**6, peak.LARGEST)])
def test_matrices_grow_until_a_product_takes_long_enough(monkeypatch, large, size):
    monkeypatch.setattr(peak.torch, "randn", lambda *size, **options: peak.torch.empty(*size))
    monkeypatch.setattr(peak, "time_product", lambda one, other: 0.01 if len(one) > large else 0.0001)
    found = measure_peak("cpu", "float32", seconds=0.0)
    assert found.size == size and found.count == 3
    assert found.flops == pytest.approx(2 * size**3 / (0.01 if size > large else 0.0001))


def test_it_is_the_best_product(monkeypatch):
    times = iter([9.0, 0.5, 0.25, 0.75])
    monkeypatch.setattr(peak, "time_product", lambda one, other: next(times))
    assert measure_peak("cpu", "bfloat16", seconds=0.0).flops == 2 * SMALLEST**3 / 0.25

"""Means and percentiles, of single values and of values that stand for many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.spread import Spread

COUNTS = st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 7)), min_size=1, max_size=30)


@given(COUNTS)
def test_a_value_that_is_there_several_times_counts_as_often(counts: list[tuple[float, int]]):
    values = [value for value, times in counts for _ in range(times)]
    found = Spread.of_counts(counts)
    assert found.p90 == Spread.of(values).p90
    assert found.mean == pytest.approx(np.mean(values), abs=1e-6)
    expected = np.percentile(values, [50, 90, 95, 99])
    assert [found.p50, found.p90, found.p95, found.p99] == pytest.approx(list(expected), abs=1e-6)


def test_nothing_has_no_middle():
    assert Spread.of([]) == Spread(None, None, None, None, None)
    assert Spread.of([4.0]) == Spread(4.0, 4.0, 4.0, 4.0, 4.0)

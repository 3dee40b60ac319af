"""Root mean squares of large arrays, part by part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from relax_tapml.compare import magnitudes
from relax_tapml.compare.magnitudes import root_mean_square_of, trimmed_root_mean_square

VALUES = st.one_of(st.sampled_from([0.0, 1.0, 1.0625, 2.0]), st.floats(0, 1e30))


@settings(max_examples=60, deadline=None)
@given(
    values=arrays.arrays(np.float64, st.integers(0, 200), elements=VALUES),
    outliers=st.sampled_from([0.0, 0.01, 0.3, 0.999]),
    step=st.sampled_from([1, 7, 1000]),
)
def test_parts_together_have_the_mean_of_the_whole(values, outliers, step):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(magnitudes, "PART", step)
        found = root_mean_square_of(lambda part: values[part], values.size)
        trimmed = trimmed_root_mean_square(lambda part: values[part], values.size, outliers)
    kept = np.sort(values)[: max(1, int(values.size * (1 - outliers)))]
    np.testing.assert_allclose(found, np.sqrt(np.mean(values**2)) if values.size else 0, rtol=1e-12)
    np.testing.assert_allclose(trimmed, np.sqrt(np.mean(kept**2)) if kept.size else 0, rtol=1e-12)


def test_only_what_counts_is_counted():
    """A part may have fewer magnitudes than values, or none."""
    values = np.arange(100.0)
    found = trimmed_root_mean_square(lambda part: values[part][values[part] < 10], 100, 0.1)
    assert found == pytest.approx(np.sqrt(np.mean(np.arange(9.0) ** 2)))

from __future__ import annotations

import pytest

from relax_tapml.printable import names_text
from relax_tapml.report.quantities import (
    count_text,
    metrics_text,
    number_text,
    seconds_text,
    size_text,
    value_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (3.14e-6, "3.1e-06"),
        (0.0666, "0.0666"),
        (28.0, "28"),
        (123456.0, "1.2e+05"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0004, "0.4 ms"),
        (0.038, "38 ms"),
        (0.9996, "1.0 s"),
        (99.9, "99.9 s"),
        (99.96, "1 min 40 s"),
        (119.7, "2 min 0 s"),
        (7325, "122 min 5 s"),
    ],
)
def test_seconds(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (41_203_344, "41 MB"),
        (999_600, "1.0 MB"),
        (3 * 10**12, "3.0 TB"),
    ],
)
def test_size(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


def test_value_and_count() -> None:
    values = (47.312512, 3, float("nan"), True, None)
    assert [value_text(value) for value in values] == ["47.3125", "3", "nan", "True", "None"]
    assert (count_text(1, "unit"), count_text(0, "unit")) == ("1 unit", "0 units")


def test_every_metric_is_written() -> None:
    """Whatever its name: a new metric needs no new text."""
    metrics = {
        "values": 12,
        "max_abs": 0.25,
        "snr_db": None,
        "nonfinite": {"expected_nan": 0, "actual_nan": 3, "actual_inf": 1},
        "saturation": {"expected": 0, "actual": 0},
        "new": float("inf"),
    }
    assert metrics_text(metrics) == (
        "values 12, max_abs 0.25, snr_db -, nonfinite (actual_nan 3, actual_inf 1), saturation 0, "
        "new inf"
    )


def test_only_the_first_names_of_many_are_written() -> None:
    assert (names_text("abc"), names_text("abcde")) == ("a, b, c", "a, b, c and 2 more")

"""What comparing large float32 tensors costs, beside ``numpy.testing.assert_allclose``.

In one process, round after round, for each size: a result that is the oracle byte for byte, one
that differs everywhere by a rounding or two, and one that has a mismatch besides. ``compare``
judges every value and gives all metrics; ``assert_allclose`` gets the same numbers for its
tolerance. Each round begins with the other of the two. Seconds are medians; memory is the peak of
what NumPy allocates during one more call, without the two tensors.

Exits with 1 if for any size and result ``compare`` takes more than 1.5 x as long or more memory.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from relax_tapml.compare.comparison import compare
from relax_tapml.compare.tolerances.rule import RuleTolerance

MOST_TIME = 1.5
TOLERANCE = RuleTolerance(atol=1e-6, rtol=1e-5, origin="given by the benchmark")

Array = np.ndarray[Any, np.dtype[Any]]


def results(size: int) -> Iterator[tuple[str, Array, Array]]:
    """Yield what is compared: what it shows, the oracle, the result."""
    oracle = np.random.default_rng(0).standard_normal(size, dtype=np.float32)
    yield "identical", oracle, oracle.copy()
    close = oracle * np.float32(1 + 2e-7)
    yield "close", oracle, close
    close[size // 2] += 1
    yield "one mismatch", oracle, close


def allclose(oracle: Array, actual: Array) -> None:
    """Do what most tests do; a mismatch is expected for some results."""
    with contextlib.suppress(AssertionError):
        np.testing.assert_allclose(actual, oracle, rtol=TOLERANCE.rtol, atol=TOLERANCE.atol)


def ours(oracle: Array, actual: Array) -> None:
    """Compare with all metrics."""
    compare(oracle, actual, TOLERANCE)


def seconds(function: Callable[[Array, Array], None], oracle: Array, actual: Array) -> float:
    """Return how long one call takes."""
    began = time.perf_counter()
    function(oracle, actual)
    return time.perf_counter() - began


def peak_bytes(function: Callable[[Array, Array], None], oracle: Array, actual: Array) -> int:
    """Return the most that is allocated at one time during a call."""
    tracemalloc.start()
    function(oracle, actual)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def main() -> int:
    """Print one row for each size and result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--millions", type=int, nargs="+", default=[1, 16, 64], help="sizes, in 2**20 values"
    )
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    table = Table(
        "values", "result", "compare s", "allclose s", "ratio", "compare MB", "allclose MB"
    )
    is_good = True
    for millions in args.millions:
        for what, oracle, actual in results(millions << 20):
            taken: dict[Callable[[Array, Array], None], list[float]] = {ours: [], allclose: []}
            for number in range(args.rounds):
                for function in list(taken)[:: -1 if number % 2 else 1]:
                    taken[function].append(seconds(function, oracle, actual))
            mine, theirs = (statistics.median(found) for found in taken.values())
            my_peak, their_peak = (peak_bytes(function, oracle, actual) for function in taken)
            is_good &= mine <= MOST_TIME * theirs and my_peak <= their_peak
            table.add_row(
                f"{millions} Mi",
                what,
                f"{mine:.3f}",
                f"{theirs:.3f}",
                f"{mine / theirs:.2f}",
                f"{my_peak / 1e6:.1f}",
                f"{their_peak / 1e6:.1f}",
            )
    Console().print(table)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())

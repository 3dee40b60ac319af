"""Products of matrices tile by tile, in threads, with little memory.

Of the two factors, the one with fewer rows is *held*: a panel of its rows is prepared once and
multiplied with all rows of the other. The other is *streamed*: each of its tiles is widened to
float64 once for a panel, in memory that the thread uses again for the next tile. What a tile and
its temporaries take fits into a cache of a core.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from threadpoolctl import ThreadpoolController

from relax_tapml.arrays import Array
from relax_tapml.cores import in_threads, slices
from relax_tapml.derive._product_matrices import Matrix

TILE = 1 << 19
"""Values of one tile, and of one array of temporaries."""

_PANEL = 1 << 21  # Values of one panel.


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some rows of a factor.

    Parameters
    ----------
    wide
        float64, ``[rows, terms]``.
    errors
        How far each value may be off; None as in ``Matrix``.
    """

    wide: Array
    errors: Array | None

    def part(self, rows: slice) -> Self:
        """Return some of the rows."""
        errors = None if self.errors is None else self.errors[rows]
        return replace(self, wide=self.wide[rows], errors=errors)

    def carried(self, other: Rows, step: float, other_step: float) -> Array:
        """Return what given errors of the factors come to in each sum.

        Parameters
        ----------
        other
            Rows of the other factor.
        step, other_step
            The relative errors of values whose errors are not given.
        """
        total: Any = 0.0
        if self.errors is not None:
            total = total + self.errors @ (np.abs(other.wide) * (1 + other_step)).T
            if other.errors is not None:
                total = total + self.errors @ other.errors.T
        if other.errors is not None:
            total = total + (np.abs(self.wide) * (1 + step)) @ other.errors.T
        return np.asarray(total)


class Memory(threading.local):
    """Arrays that a thread uses again and again, by name."""

    def __init__(self) -> None:
        self._kept: dict[str, Array] = {}

    def like(self, name: str, array: Array, dtype: Any) -> Array:
        """Return an array of the shape of ``array``, which lies in memory in the same order."""
        shape = array.shape
        is_transposed = array.ndim == 2 and abs(array.strides[0]) < abs(array.strides[1])
        found = self.of(name, shape[::-1] if is_transposed else shape, dtype)
        return found.T if is_transposed else found

    def of(self, name: str, shape: Sequence[int], dtype: Any) -> Array:
        """Return an array of a shape."""
        size = int(np.prod(shape))
        kept = self._kept.get(name)
        if kept is None or kept.size < size or kept.dtype != dtype:
            kept = self._kept[name] = np.empty(size, dtype)
        return kept[:size].reshape(shape)


Prepare = Callable[[Matrix, int, slice, Memory | None], Any]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the elements of a tile are: a batch, rows of the left factor, rows of the right."""

    batch: int
    rows: slice
    columns: slice

    @property
    def index(self) -> tuple[Any, ...]:
        """The index of the elements in an array ``[batch, rows, columns]``."""
        return self.batch, self.rows, self.columns


def each_tile(
    left: Matrix,
    right: Matrix,
    prepare: Prepare,
    compute: Callable[[Any, Any, Place, Memory], None],
    *,
    temporaries: int = 1,
) -> None:
    """Compute every element of a product once, in tiles.

    Parameters
    ----------
    left, right
        The factors.
    prepare
        Return ``Rows`` of a factor: of a batch, some rows, in the memory of the thread, or in its
        own where that is None.
    compute
        Compute a tile from rows of the left and of the right factor.
    temporaries
        How many values it holds for each element.
    """
    batches, height, terms = left.values.shape
    width = right.values.shape[1]
    is_swapped = height > width
    held, streamed = (right, left) if is_swapped else (left, right)
    memory = Memory()
    panel_step, step = (max(1, values // max(1, terms)) for values in (_PANEL, TILE))
    step = max(1, min(step, TILE // max(1, min(height, width, 64))))

    def work(item: tuple[int, _Panel, slice]) -> None:
        batch, panel, rows = item
        tile = prepare(streamed, batch, rows, memory)
        together = max(1, TILE // (temporaries * (rows.stop - rows.start)))
        for some in slices(panel.rows.stop - panel.rows.start, together):
            part = panel.prepared.part(some)
            own = slice(panel.rows.start + some.start, panel.rows.start + some.stop)
            with np.errstate(all="ignore"):
                if is_swapped:
                    compute(tile, part, Place(batch=batch, rows=rows, columns=own), memory)
                else:
                    compute(part, tile, Place(batch=batch, rows=own, columns=rows), memory)
        panel.count_down()

    def items() -> Iterator[tuple[int, _Panel, slice]]:
        for batch in range(batches):
            for rows in slices(min(height, width), panel_step):
                tiles = list(slices(max(height, width), step))
                panel = _Panel(held, batch, rows, prepare, len(tiles))
                for tile in tiles:
                    yield batch, panel, tile

    # The library's own threads would only share its products, and wait for each other busily.
    with _libraries().limit(limits=1, user_api="blas"):
        in_threads(work, items())


class _Panel:
    """Rows of the held factor, prepared by the first thread that needs them, for so many tiles."""

    def __init__(
        self, matrix: Matrix, batch: int, rows: slice, prepare: Prepare, tiles: int
    ) -> None:
        self.rows = rows
        self._tiles = tiles
        self._prepare = functools.partial(prepare, matrix, batch, rows, None)
        self._lock = threading.Lock()
        self._prepared: Any = None

    @property
    def prepared(self) -> Any:
        with self._lock:
            if self._prepared is None:
                self._prepared = self._prepare()
            return self._prepared

    def count_down(self) -> None:
        """Free the rows after the last tile."""
        with self._lock:
            self._tiles -= 1
            if not self._tiles:
                self._prepared = None


@functools.cache
def _libraries() -> ThreadpoolController:
    """Return what limits the threads of NumPy's matrix library."""
    return ThreadpoolController()

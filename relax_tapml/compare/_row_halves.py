"""Whether zeros would be detected in each half of each row."""

from __future__ import annotations

import numpy as np

from relax_tapml.arrays import Array

_ABSENT, _UNSEEN, _SEEN = 0, 1, 2


class RowHalves:
    """Takes the values of an output piece by piece, in row-major order and without gaps.

    A half has a score: 0 if it holds zeros only, 1 if zeros in place of its values would pass,
    2 if that would be a mismatch.

    Parameters
    ----------
    shape
        Of the output. Rows are its last axis; if that has one value only, all values are one row.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        size = int(np.prod(shape, dtype=np.int64))
        self._row = shape[-1] if shape and shape[-1] > 1 else max(size, 1)
        self._first = (self._row + 1) // 2
        # The half in which the values so far end.
        self._half, self._score = 0, _ABSENT
        self._is_unseen = False

    @property
    def are_seen(self) -> bool:
        """Whether zeros would be a mismatch in every half that holds other values."""
        return not self._is_unseen and self._score != _UNSEEN

    def add(self, start: int, scores: Array) -> None:
        """Add the score of each value from flat index ``start`` on, uint8."""
        stop = start + scores.size
        rows = np.arange(start // self._row, (stop - 1) // self._row + 1, dtype=np.int64)
        begins = np.stack([rows * self._row, rows * self._row + self._first], axis=1).reshape(-1)
        # The half of `start` begins there or before; in a row of one value the second is empty.
        halves = np.flatnonzero(begins < stop)
        begins = np.maximum(begins[halves], start)
        is_last = np.append(begins[1:] > begins[:-1], True)  # of those that begin at one place
        halves, begins = halves[is_last] + 2 * int(rows[0]), begins[is_last]
        found = np.maximum.reduceat(scores, begins - start)
        if int(halves[0]) == self._half:
            found[0] = max(int(found[0]), self._score)
        elif self._score == _UNSEEN:
            self._is_unseen = True
        self._is_unseen |= bool((found[:-1] == _UNSEEN).any())
        self._half, self._score = int(halves[-1]), int(found[-1])

    def join(self, later: RowHalves) -> None:
        """Take over the values that follow, of which the first is the first of a row."""
        self._is_unseen = not self.are_seen or later._is_unseen
        self._half, self._score = later._half, later._score

    def add_seen(self, start: int, count: int) -> None:
        """Add ``count`` values of score 2."""
        last = start + count - 1
        first = 2 * (start // self._row) + (start % self._row >= self._first)
        if first != self._half and self._score == _UNSEEN:
            self._is_unseen = True
        self._half = 2 * (last // self._row) + (last % self._row >= self._first)
        self._score = _SEEN

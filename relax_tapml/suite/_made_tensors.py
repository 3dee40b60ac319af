"""The tensors of a suite that take time to make, kept while they may be taken again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Condition

from relax_tapml.arrays import Array

_Make = Callable[[], Array]

_MOST_BYTES = 5 << 28
_MOST_UNEXPECTED = 1 << 28


class MadeTensors:
    """Tensors by digest, for any number of threads: what several of them take is made once.

    It may be told what is taken next, in which order (``expect``). Then what is not expected goes
    first, and tensors can be made ahead of their turn, in what room the others leave.

    Parameters
    ----------
    most_bytes
        Of the tensors that are kept or being made; more only for one that is taken now.
    most_unexpected
        The same of those that are not expected.
    """

    def __init__(
        self, most_bytes: int = _MOST_BYTES, most_unexpected: int = _MOST_UNEXPECTED
    ) -> None:
        self._most_bytes = most_bytes
        self._most_unexpected = most_unexpected
        # It guards all of the following, and tells when a tensor is made or there may be room.
        self._changed = Condition()
        self._kept: dict[str, Array] = {}  # What was taken last is the last.
        self._making: dict[str, int] = {}  # Their bytes.
        self._expected: dict[str, int] = {}  # Their places in the order.

    def take(self, digest: str, size_bytes: int, make: _Make) -> Array:
        """Return a tensor; make it unless it is kept. What ``make`` raises is raised here."""
        with self._changed:
            while digest in self._making:
                self._changed.wait()
            if digest in self._kept:
                array = self._kept[digest] = self._kept.pop(digest)
                return array
            if digest in self._expected:
                last_first = sorted(self._kept, key=lambda one: -self._expected.get(one, -1))
                self._free(self._most_bytes - size_bytes, (*self._unexpected(), *last_first))
            else:
                self._free_unexpected(size_bytes)
            self._making[digest] = size_bytes
        return self._made(digest, make)

    def make_ahead(self, digest: str, size_bytes: int, make: _Make) -> None:
        """Make a tensor ahead of its turn, as soon as there is room for it.

        It is not made if it is larger than ``most_bytes``, and not any more once it is not
        expected. What is expected never makes room.
        """
        with self._changed:
            while True:
                is_there = digest in self._kept or digest in self._making
                if is_there or digest not in self._expected or size_bytes > self._most_bytes:
                    return
                if self._free(self._most_bytes - size_bytes, self._unexpected()):
                    break
                self._changed.wait()
            self._making[digest] = size_bytes
        self._made(digest, make)

    def expect(self, digests: Sequence[str]) -> None:
        """Tell which tensors are taken from now on, in order, in place of what was told before."""
        with self._changed:
            self._expected = {digest: place for place, digest in reversed([*enumerate(digests)])}
            self._free_unexpected(0)
            self._changed.notify_all()

    def forget(self) -> None:
        """Free what is kept and not expected."""
        with self._changed:
            for digest in self._unexpected():
                del self._kept[digest]
            self._changed.notify_all()

    def _made(self, digest: str, make: _Make) -> Array:
        """Make a tensor that is noted as being made."""
        try:
            array = make()
            with self._changed:
                self._kept[digest] = array
            return array
        finally:
            with self._changed:
                del self._making[digest]
                self._free_unexpected(0)
                self._changed.notify_all()

    def _unexpected(self) -> tuple[str, ...]:
        """Return what is kept and not expected, the oldest first."""
        return tuple(digest for digest in self._kept if digest not in self._expected)

    def _free_unexpected(self, size_bytes: int) -> None:
        """Free what is not expected, until there is so much room among what is not."""
        expected = sum(self._kept[one].nbytes for one in self._kept if one in self._expected)
        expected += sum(self._making.values())
        self._free(expected + self._most_unexpected - size_bytes, self._unexpected())

    def _free(self, limit: int, those: Sequence[str]) -> bool:
        """Free some of those, in order, until all is within a limit; return whether it is."""
        excess = sum(array.nbytes for array in self._kept.values()) - limit
        excess += sum(self._making.values())
        for digest in those:
            if excess > 0 and digest in self._kept:
                excess -= self._kept.pop(digest).nbytes
        return excess <= 0

"""Hash drained tensors in several threads at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from relax_tapml.capture.host_tensor import HostTensor
from relax_tapml.cores import usable_cores

_MOST_THREADS = 8
# A thread is worth it for more than this.
_THREAD_BYTES = 256 << 10


class Hashing:
    """Threads that compute digests; hashing releases the GIL. They are started when needed."""

    def __init__(self) -> None:
        # The run that is captured needs the others.
        self._threads = min(_MOST_THREADS, usable_cores() // 2)
        self._pool: ThreadPoolExecutor | None = None

    def hashed(self, events: Iterable[Sequence[Any]]) -> dict[int, HostTensor]:
        """Return the tensors among some events of the queue, by number, with their digests."""
        tensors = {e[1]: HostTensor.view_of(e[2]) for e in events if e[0] == "tensor"}
        large = [tensor for tensor in tensors.values() if tensor.nbytes > _THREAD_BYTES]
        if len(large) > 1 and self._threads > 1:
            self._pool = self._pool or ThreadPoolExecutor(self._threads, "relax_tapml.hash")
            for _ in self._pool.map(lambda tensor: tensor.digest, large):
                pass
        return tensors

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

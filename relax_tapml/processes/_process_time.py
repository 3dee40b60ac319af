"""How much processor time a process has used."""

from __future__ import annotations

from contextlib import suppress

import psutil

# Of the elapsed time: with less, a process is idle, and waits for something else than a core.
_IDLE = 0.03
_LEAST = 0.1
_ALL_THREADS = 0  # No thread has this number.


class ProcessTime:
    """A clock that runs slower while a process and its children get less than a core.

    Parameters
    ----------
    pid
        The process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._used = self._threads()

    def counted_s(self, passed_s: float) -> float:
        """Return how many of the seconds elapsed since the last call count.

        The processor time of the thread that used most, at least a tenth of the elapsed time. All
        of it where no thread used any: the process sleeps, or waits for a device, which a busy
        machine does not delay. Threads are not added up, so their number makes no difference; where
        the system does not tell them apart, they are, and more of the time counts.
        """
        before, self._used = self._used, self._threads()
        grown = max((now - before.get(key, 0.0) for key, now in self._used.items()), default=0.0)
        if grown < _IDLE * passed_s:
            return passed_s
        return min(passed_s, max(grown, _LEAST * passed_s))

    def _threads(self) -> dict[tuple[int, int], float]:
        """Return the processor seconds of each thread of the process and its children.

        By process and thread.
        """
        used: dict[tuple[int, int], float] = {}
        try:
            root = psutil.Process(self._pid)
            processes = [root, *root.children(recursive=True)]
        except psutil.Error:
            return used
        for process in processes:
            try:
                for thread in process.threads():
                    used[process.pid, thread.id] = thread.user_time + thread.system_time
            except psutil.AccessDenied:  # macOS tells the threads of other processes to root only.
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    used[process.pid, _ALL_THREADS] = times.user + times.system
            except psutil.Error:  # It has just ended.
                continue
        return used

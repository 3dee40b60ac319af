"""Replay units on several devices of one kind at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from relax_tapml.compare.repeat import ROUNDS, is_failure
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceUnavailable
from relax_tapml.replays.fleet._consensus import DeviceOutcome, decide, outvoted_devices, trusted
from relax_tapml.replays.fleet._suspicion import suspicion
from relax_tapml.replays.unit.replayer import Replayer
from relax_tapml.replays.unit.unit_replay import UnitReplay, replay_unit
from relax_tapml.results.device_result import DeviceResult
from relax_tapml.targets.fleet.lease import LeasedDevice
from relax_tapml.targets.fleet.tracker import TrackerKey
from relax_tapml.targets.session.device import Device

_POLL_S = 0.2
_ENDING_S = 10.0
# A server is back a moment after its session; one that is not is lost, or leased by another user.
_RETURN_S = 10.0


@dataclass(eq=False)
class _Job:
    """A unit to be judged, how it ended on devices, and which thread opens a session for it."""

    unit: str
    outcomes: list[DeviceOutcome] = field(default_factory=list)
    renewing: _Worker | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether it is to be the first in its session."""
        return any(item.is_fault or item.detail.context for item in self.outcomes)

    @property
    def is_flaky(self) -> bool:
        return any(item.detail.verdict is Verdict.FLAKY for item in self.outcomes)

    @property
    def finished_devices(self) -> set[str]:
        """Devices that need not run it again."""
        return {o.device for o in self.outcomes if o.is_fault or not o.detail.context}


@dataclass(eq=False)
class _Worker:
    """A thread with its device."""

    device: LeasedDevice
    replayer: Replayer
    is_live: bool = True
    is_renewing: bool = False

    @property
    def address(self) -> str:
        """Where its session is; empty while it has none, and may get any server."""
        return self.device.name if self.device.is_open else ""


class FleetReplay:
    """A queue of units, and one thread for each device that takes from it.

    Sessions are leased from a tracker, so a thread may have another server after each of them. What
    fails is run on a second device, and where that disagrees on a third; see ``decide``. A device
    that most others contradict gets no more work. A thread whose server does not come back ends,
    and another thread takes the unit it had.

    Parameters
    ----------
    tracker, target, timeout_s
        As for ``LeasedDevice``.
    count
        How many devices to use; a thread leases one when there is work for it.
    open_replayer
        Returns what replays on a device; their programs are shared and built already.
    units
        What to replay.
    repeat
        How often each case is run.
    on_unit
        Called after each unit, with how many of how many are done; from any thread.

    Attributes
    ----------
    devices
        What each device did, by its address.
    unavailable
        Why no device is left, where some units have not been judged; None otherwise.
    """

    def __init__(
        self,
        tracker: TrackerKey,
        target: Any,
        *,
        timeout_s: float,
        count: int,
        open_replayer: Callable[[Device], Replayer],
        units: Sequence[str],
        repeat: int,
        on_unit: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        self._on_unit = on_unit
        self.devices: dict[str, DeviceResult] = {}
        self.unavailable: DeviceUnavailable | None = None
        self._tracker = tracker
        self._timeout_s = timeout_s
        self._units = tuple(units)
        self._repeat = repeat
        # What is below is changed with this held, but for how the run ends (error, is_stopped,
        # is_live), which is set once and only read to see whether to go on.
        self._changed = threading.Condition()
        self._pending = [_Job(unit) for unit in units]
        self._judged: dict[str, _Job] = {}
        self._details: dict[str, UnitReplay] = {}
        self._suspects: set[str] = set()
        self._error: BaseException | None = None
        self._unavailable: DeviceUnavailable | None = None
        self._is_stopped = False
        self._workers = []
        for _ in range(count):
            device = LeasedDevice(
                tracker,
                target,
                timeout_s=timeout_s,
                avoided=self._suspects,
                wait_s=self._wait_s,
                is_wanted=lambda: not self._is_over,
            )
            self._workers.append(_Worker(device=device, replayer=open_replayer(device)))

    def run(self) -> dict[str, UnitReplay]:
        """Replay all units and return how they ended, in the order they were given.

        Those that no device was left for are missing.

        Raises
        ------
        StoreError
            A file of the suite cannot be read.
        """
        threads = [
            threading.Thread(target=self._work, args=(worker,), daemon=True)
            for worker in self._workers
        ]
        try:
            for thread in threads:
                thread.start()
            with self._changed:
                while not self._is_over:
                    self._changed.wait(_POLL_S)
        except BaseException:
            # Ctrl-C: what runs on the devices now is not waited for.
            self._is_stopped = True
            for worker in self._workers:
                worker.device.interrupt()
            raise
        finally:
            self._is_stopped = True
            self._join(threads)
        if self._error is not None:
            raise self._error
        with self._changed:
            self._settle()
        self._name_suspects()
        if len(self._details) < len(self._units):
            self.unavailable = DeviceUnavailable(self._what_was_lost())
            self.unavailable.__cause__ = self._unavailable
        return {unit: self._details[unit] for unit in self._units if unit in self._details}

    def _join(self, threads: Sequence[threading.Thread]) -> None:
        """Wait until all threads have ended; after a while, let their calls on devices fail."""
        end = time.monotonic() + _ENDING_S
        for thread, worker in zip(threads, self._workers, strict=True):
            if thread.ident is None:  # it could not be started
                continue
            thread.join(max(end - time.monotonic(), 0))
            while thread.is_alive():
                worker.device.interrupt()
                thread.join(_POLL_S)

    @property
    def _is_over(self) -> bool:
        return (
            self._is_stopped
            or self._error is not None
            or len(self._details) == len(self._units)
            or not any(worker.is_live for worker in self._workers)
        )

    def _wait_s(self) -> float:
        is_last = sum(worker.is_live for worker in self._workers) == 1
        return self._timeout_s if is_last else min(self._timeout_s, _RETURN_S)

    def _work(self, worker: _Worker) -> None:
        job: _Job | None = None
        try:
            while self._has_work():
                # While it waits for a server, units wait in the queue.
                if worker.replayer.open(is_fresh=worker.is_renewing) in self._suspects:
                    break
                job = self._take(worker)
                if job is not None:
                    self._run(worker, job)
                    job = None
        except DeviceUnavailable as error:
            with self._changed:
                if not self._is_over:
                    self._unavailable = error
                    others = {other.address for other in self._workers}
                    if worker.device.name not in others:
                        lost = DeviceResult(lost="its server did not come back")
                        self._note(worker.device.name, lost)
        except BaseException as error:
            self._error = error
        finally:
            worker.replayer.close()
            with self._changed:
                worker.is_live = False
                if job is not None:
                    self._pending.insert(0, job)
                self._changed.notify_all()

    def _has_work(self) -> bool:
        """Wait until there is a unit that no other thread has."""
        with self._changed:
            while not self._is_over and not self._pending:
                self._changed.wait(_POLL_S)
            return not self._is_over

    def _take(self, worker: _Worker) -> _Job | None:
        """Return a unit for a device; None if there is none for it, or for the session it has."""
        with self._changed:
            worker.is_renewing = False
            self._settle()
            for job in self._pending:
                if job.renewing is worker or (job.renewing and not job.renewing.is_live):
                    job.renewing = None
            for job in self._pending:
                if worker.address in job.finished_devices and self._has_others(job):
                    continue
                if not job.is_fresh or worker.replayer.is_fresh:
                    self._pending.remove(job)
                    job.renewing = None
                    return job
                if job.renewing is None:
                    job.renewing = worker
                    worker.is_renewing = True
                    return None
            self._changed.wait(_POLL_S)
            return None

    def _run(self, worker: _Worker, job: _Job) -> None:
        began, before = time.perf_counter(), worker.replayer.traffic
        repeat = max(self._repeat, ROUNDS) if job.is_flaky else self._repeat
        detail = replay_unit(worker.replayer, job.unit, repeat)
        # The session of the last case may be over; the replay notes where it ran.
        address = detail.device or worker.device.name
        outcome = DeviceOutcome(device=address, detail=detail)
        if outcome.is_fault and worker.device.is_gone():
            outcome = replace(outcome, is_lost=True)
        done = DeviceResult(
            units=1,
            seconds=time.perf_counter() - began,
            faults=int(outcome.is_fault),
            traffic=worker.replayer.traffic - before,
            lost=f"its server is gone, after {job.unit} began there" if outcome.is_lost else "",
        )
        with self._changed:
            self._note(address, done)
            job.outcomes.append(outcome)
            self._pending.insert(0, job)
            self._settle()
            self._changed.notify_all()

    def _settle(self) -> None:
        """Judge what can be; called with the lock held."""
        for job in [item for item in self._pending if item.outcomes]:
            outcomes = trusted(job.outcomes, self._suspects)
            detail = decide(outcomes, has_others=self._has_others(job))
            if detail is not None:
                self._pending.remove(job)
                self._judged[job.unit] = job
                self._details[job.unit] = detail
                self._on_unit(len(self._details), len(self._units))
                self._suspects.update(outvoted_devices(outcomes))

    def _has_others(self, job: _Job) -> bool:
        """Whether a device is there, or expected, that has not finished a unit."""
        known = job.finished_devices | self._suspects
        return any(worker.is_live and worker.address not in known for worker in self._workers)

    def _note(self, address: str, done: DeviceResult) -> None:
        if address:
            self.devices[address] = self.devices.get(address, DeviceResult()) + done

    def _what_was_lost(self) -> str:
        reasons = [
            f"{name}: {one.lost or one.suspect}"
            for name, one in self.devices.items()
            if one.lost or one.suspect
        ]
        if self._unavailable is not None:
            reasons.append(str(self._unavailable))
        return f"no device of key {self._tracker.key!r} is left: {'; '.join(reasons)}"

    def _name_suspects(self) -> None:
        for address in self._suspects:
            wrong: list[str] = []
            others: list[str] = []
            for unit in self._details:
                outcomes = self._judged[unit].outcomes
                is_wrong = any(o.device == address and o.is_failure for o in outcomes)
                if is_wrong and not is_failure(self._details[unit].verdict):
                    wrong.append(unit)
                    others += [o.device for o in outcomes if o.is_pass]
            found = suspicion(wrong, sorted(set(others)))
            self.devices[address] += DeviceResult(suspect=found)
        self.devices = dict(sorted(self.devices.items()))

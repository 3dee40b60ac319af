"""The process of one build: opens the suite, replays units, times them; started by ``_bootstrap``.

It gets a line of JSON for each request and answers with one, whose ``kind`` says what it is.
"""

from __future__ import annotations

import contextlib
import json
import platform
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tvm

from relax_tapml import errors
from relax_tapml.errors import (
    DeviceFault,
    DeviceUnavailable,
    LoweringError,
    MachineError,
    StoreError,
    TapmlError,
    UsageError,
)
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.pipeline import load_pipeline
from relax_tapml.passes.cache_call import reads_cache
from relax_tapml.processes.child import end_with_parent
from relax_tapml.replays.replay import replay
from relax_tapml.replays.results import replay_result
from relax_tapml.replays.unit.replayer import suite_programs
from relax_tapml.replays.unit.timed_call import Clock, calls_of_round, largest_case, timed_call
from relax_tapml.replays.unit.unit_programs import UnitPrograms
from relax_tapml.results.json_codec import encode
from relax_tapml.suite.open_suite import Suite, open_suite
from relax_tapml.suite.transcript import transcribe
from relax_tapml.targets.open_session import check_session, open_device
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.session.device import Device

Request = dict[str, Any]
_VERSIONS = ("apache-tvm", "apache-tvm-ffi", "numpy")


class _Build:
    """What requests are about."""

    def __init__(self, send: Callable[[Request], None]) -> None:
        self._send = send
        self._options: Request = {}
        self._suite: Suite | None = None
        self._target: Any = None
        self._programs: UnitPrograms | None = None
        self._device: Device | None = None
        self._timed: tuple[Clock, int] | None = None

    def begin(self, options: Request) -> Request:
        """Say what this process is, and check what it is to do."""
        self._options = options
        self._target = parse_target(options["target"], options["session"])
        check_session(options["session"], self._target)
        load_pipeline(options["pipeline"])
        return {
            "versions": {"python": platform.python_version(), **_versions()},
            "tvm": str(Path(tvm.__file__).parent),
            "package": str(Path(errors.__file__).parent),
        }

    def open(self, request: Request) -> Request:
        """Open the suite, with its modules from scripts if there are any."""
        folder = Path(request["suite"])
        if request["scripts"]:
            folder = transcribe(folder, Path(request["scripts"]), self._folder / "suite" / "tests")
        self._suite = open_suite(folder, self._target, trust=request["trust"])
        return {}

    def replay(self, request: Request) -> Request:
        """Replay units."""
        assert self._suite is not None
        report = replay(
            self._suite,
            target=self._target,
            session=self._options["session"],
            device_pipeline=self._options["pipeline"],
            kernels=self._folder / "kernels",
            timeout_s=self._options["timeout_s"],
            units=request["units"],
            repeat=request["repeat"],
            seed=request["seed"],
            trust=self._suite.trust,
            on_unit=lambda done, total: self._send(
                {"kind": "progress", "done": done, "total": total}
            ),
        )
        return {"result": encode(replay_result(report))}

    def prepare(self, request: Request) -> Request:
        """Build and load a unit to be timed; return the case, or why that cannot be."""
        assert self._suite is not None
        self._timed = None
        unit = request["unit"]
        if reads_cache(unit):
            return {"reason": "its cases make a KV cache, which would be timed, too"}
        library = KernelLibrary(self._folder / "kernels")
        if self._programs is None:
            pipeline = load_pipeline(self._options["pipeline"])
            self._programs = suite_programs(
                self._suite, target=self._target, device_pipeline=pipeline, library=library
            )
        if self._device is None:
            self._device = open_device(
                self._options["session"], self._target, timeout_s=self._options["timeout_s"]
            )
        case = largest_case(self._suite, self._suite.manifest.units[unit].cases)
        try:
            clock = timed_call(
                self._programs.implementation(unit),
                self._suite,
                case,
                target=self._target,
                library=library,
                device=self._device,
            )
            self._timed = clock, calls_of_round(clock)
        except (DeviceFault, LoweringError) as fault:
            self._end_session()
            return {"reason": f"it cannot be timed: {fault}"}
        return {"case": case.name}

    def turn(self, _request: Request) -> Request:
        """Time a round of the unit that was prepared."""
        assert self._timed is not None
        clock, calls = self._timed
        try:
            return {"seconds": clock(calls)}
        except DeviceFault as fault:
            self._end_session()
            return {"reason": f"it cannot be timed: {fault}"}

    def renew(self, _request: Request) -> Request:
        """Let the next unit be timed in a new session."""
        self._end_session()
        return {}

    def _end_session(self) -> None:
        self._timed = None
        if self._device is not None:
            self._device.close()
            self._device = None

    @property
    def _folder(self) -> Path:
        return Path(self._options["folder"])


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"apache-tvm": str(tvm.__version__)}
    for name in _VERSIONS[1:]:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _failure(error: Exception) -> Request:
    text = getattr(error, "text", "").strip()
    message = "\n".join([str(error), *([text] if text else [])])
    if isinstance(error, UsageError):
        return {"kind": "usage", "message": message}
    if isinstance(error, StoreError):
        return {"kind": "store", "message": message}
    if isinstance(error, DeviceUnavailable | MachineError | TapmlError):
        return {"kind": "unavailable", "message": message}
    raise error


def serve(connection: socket.socket) -> None:
    """Answer requests until the connection ends."""
    end_with_parent()
    lines = connection.makefile("rw", encoding="utf-8", newline="\n")

    def send(answer: Request) -> None:
        lines.write(json.dumps(answer) + "\n")
        lines.flush()

    build = _Build(send)
    for line in lines:
        request = json.loads(line)
        try:
            answer = {"kind": "done", **getattr(build, request.pop("do"))(request)}
        except TapmlError as error:
            answer = _failure(error)
        send(answer)
    sys.exit(0)

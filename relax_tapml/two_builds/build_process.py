"""A process with the interpreter and the environment of a build, which runs the suite there."""

from __future__ import annotations

import json
import os
import shutil
import site
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_tapml import errors, passes
from relax_tapml.errors import DeviceUnavailable, StoreError, TapmlError, UsageError
from relax_tapml.files.closing import Closing
from relax_tapml.files.scratch import ScratchFolder
from relax_tapml.processes.child import Child, ending_text, import_path
from relax_tapml.processes.deadline import Deadline
from relax_tapml.results.json_codec import decode
from relax_tapml.results.replay_result import ReplayResult
from relax_tapml.two_builds._bootstrap import sources_digest
from relax_tapml.two_builds.build_spec import BuildSpec

_START_S = 300.0
_ENDING_S = 5.0
_BOOTSTRAP = Path(__file__).with_name("_bootstrap.py")
_PYTHON = "PYTHONPATH"
_ERRORS: dict[str, type[TapmlError]] = {
    "usage": UsageError,
    "store": StoreError,
    "unavailable": DeviceUnavailable,
}


@dataclass(frozen=True, kw_only=True)
class BuildPlace:
    """What a build's process is, as it says itself.

    Parameters
    ----------
    versions
        Of Python and of the distributions that results depend on.
    tvm, package
        The folders that it imports TVM and this package from.
    """

    versions: dict[str, str]
    tvm: str
    package: str


class BuildProcess(Closing):
    """Runs a suite with one build. It has kernels of its own, so nothing of another build is used.

    Parameters
    ----------
    spec
        The build.
    without_torch
        Whether TVM needs no torch for it.
    timeout_s
        How long one call on the device may take.

    Raises
    ------
    UsageError
        The target, session or pipeline is not known there.
    DeviceUnavailable
        There is no such interpreter, or it has no TVM, or another version of this package.
    """

    def __init__(self, spec: BuildSpec, *, without_torch: bool, timeout_s: float) -> None:
        self._name = spec.name
        self._folder = ScratchFolder()
        python = sys.executable if spec.python is None else _interpreter(spec.python, spec.name)
        config = self._folder.path / "config.json"
        config.write_text(json.dumps(self._config(spec, without_torch)), encoding="utf-8")
        self._connection, theirs = socket.socketpair()
        self._lines = self._connection.makefile("rw", encoding="utf-8", newline="\n")
        with theirs:
            try:
                self._child = Child(
                    "",
                    [theirs],
                    [str(config)],
                    folder=self._folder,
                    environment=_environment(spec),
                    command=[python, "-P", str(_BOOTSTRAP)],
                )
            except OSError as error:
                raise DeviceUnavailable(f"{self._name}: {python} cannot be started: {error}") from (
                    error
                )
        try:
            found = self._ask(
                "begin",
                limit_s=_START_S,
                folder=str(self._folder.path),
                target=spec.target,
                session=spec.session,
                pipeline=spec.device_pipeline,
                timeout_s=timeout_s,
            )
        except BaseException:
            self.close()
            raise
        self.place = BuildPlace(
            versions=found["versions"], tvm=found["tvm"], package=found["package"]
        )

    def _config(self, spec: BuildSpec, without_torch: bool) -> dict[str, Any]:
        package = Path(errors.__file__).parent
        is_other = spec.python is not None
        return {
            "is_other": is_other,
            "without_torch": without_torch,
            "digest": sources_digest(package) if is_other else "",
            "package": str(_linked(package, self._folder.path / "package")) if is_other else "",
            "python": list(sys.version_info[:2]),
            "others": _sites(),
        }

    def open(self, suite: Path, *, scripts: Path | None, trust: bool) -> None:
        """Open a suite, with its modules from a folder of ``write_scripts`` if that is given.

        Raises
        ------
        StoreError
            It is damaged, or this build's TVM cannot read it.
        """
        given = None if scripts is None else str(scripts)
        self._ask("open", suite=str(suite), scripts=given, trust=trust)

    def replay(
        self,
        units: list[str] | None,
        *,
        repeat: int,
        seed: int,
        on_unit: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> ReplayResult:
        """Replay units, all by default.

        Raises
        ------
        UsageError
            A unit is not known.
        DeviceUnavailable
            No session could be opened, or the process ended.
        """
        answer = self._ask("replay", units=units, repeat=repeat, seed=seed, on_unit=on_unit)
        return decode(answer["result"], ReplayResult)

    def prepare(self, unit: str) -> tuple[str, str]:
        """Load a unit to be timed; return the name of its case, or else why it cannot be timed."""
        answer = self._ask("prepare", unit=unit)
        return answer.get("case", ""), answer.get("reason", "")

    def turn(self) -> float:
        """Return the seconds of one call of the unit that was prepared, of a round of calls.

        Raises
        ------
        DeviceUnavailable
            A call failed.
        """
        answer = self._ask("turn")
        if "reason" in answer:
            raise DeviceUnavailable(answer["reason"])
        return float(answer["seconds"])

    def renew(self) -> None:
        """Let what is timed next run in a new session."""
        self._ask("renew")

    def _ask(
        self,
        what: str,
        *,
        limit_s: float | None = None,
        on_unit: Callable[[int, int], None] = lambda _done, _total: None,
        **request: Any,
    ) -> dict[str, Any]:
        with suppress(OSError):
            self._lines.write(json.dumps({"do": what, **request}) + "\n")
            self._lines.flush()
        while True:
            answer = self._line(limit_s)
            if answer["kind"] != "progress":
                break
            on_unit(answer["done"], answer["total"])
        if answer["kind"] in _ERRORS:
            raise _ERRORS[answer["kind"]](f"{self._name}: {answer['message']}")
        return answer

    def _line(self, limit_s: float | None) -> dict[str, Any]:
        line = ""
        with suppress(OSError):
            if limit_s is None:
                line = self._lines.readline()
            else:
                with Deadline(limit_s, self._child.kill, pid=self._child.pid):
                    line = self._lines.readline()
        if line.endswith("\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        ended = ending_text(self._child.exit_code(_ENDING_S)) or "closed its connection"
        text = self._child.log_tail()
        raise DeviceUnavailable(
            f"{self._name}: its process {ended}. With session=process a kernel that ends its "
            "process is found" + (f"\n{text}" if text else "")
        )

    def close(self) -> None:
        """End the process and its sessions. Never raises; may be called twice."""
        with suppress(OSError):
            self._lines.close()
        self._connection.close()
        with suppress(AttributeError):
            self._child.close()
        self._folder.close()


def _interpreter(path: Path, name: str) -> str:
    found = shutil.which(str(path))
    if found is None:
        raise DeviceUnavailable(
            f"{name}: python={path} is no program here. Give the interpreter of an environment "
            "that has apache-tvm, such as VENV/bin/python"
        )
    # Not resolved: an environment is found by the link in it.
    return str(Path(found).absolute())


def _environment(spec: BuildSpec) -> dict[str, str]:
    """Return what the environment of this process is changed by.

    This interpreter gets this process's import path, another one its own. A given PYTHONPATH comes
    first, so that another TVM can be imported from its folder.
    """
    given = dict(spec.environment)
    path = [given.pop(_PYTHON, ""), import_path() if spec.python is None else ""]
    return {_PYTHON: os.pathsep.join(filter(None, path)), **given}


def _linked(package: Path, folder: Path) -> Path:
    """Return a folder from which the package can be imported, passes included."""
    own = folder / "relax_tapml"
    own.mkdir(parents=True)
    for path in package.iterdir():
        if path.name != "passes":
            (own / path.name).symlink_to(path)
    (own / "passes").symlink_to(Path(passes.__file__).parent)
    return folder


def _sites() -> list[str]:
    """Return the folders of installed packages of this interpreter."""
    known = {*site.getsitepackages(), site.getusersitepackages()}
    return [folder for folder in sys.path if folder in known or folder.endswith("site-packages")]

"""The output folder of a run: who may write to it, and what a resumed run finds there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NotRequired, Self, TypedDict

import tvm

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.lock import LOCK_FILE, FolderLock
from relax_tapml.files.read import MAX_JSON_BYTES, read_bytes, read_json, typed
from relax_tapml.files.replace import delete, write_file
from relax_tapml.files.scratch import is_scratch, sweep
from relax_tapml.foreign.module import read_module
from relax_tapml.migrate.step import Step
from relax_tapml.partition.boundary import Boundary
from relax_tapml.results.documents import Alone, Device, Finding, WholeStep

_STATE = "state.json"
_DEVICE = "device.json"
_SCHEMA = 2
# A unit and a step have a few kilobytes each.
_MAX_BYTES = 32 * 1024 * 1024
_KIND = "relax_tapml.run"
# The state last: until it is deleted the folder can be seen to be ours.
_OURS = (
    *("result.json", "report.html", "captures", "tests", "kernels", "bundle"),
    *("boundaries", "lowered.json", _DEVICE, _STATE),
)
# What a run ends with.
_ENDS = ("result.json", "report.html")


class _Pipeline(TypedDict):
    """How the module did that the device's pipeline returned."""

    step: WholeStep
    finding: Finding


class _Device(TypedDict):
    """What is known of the device's kernels."""

    identity: dict[str, Any]
    alone: NotRequired[dict[str, Alone]]
    devices: NotRequired[dict[str, Device]]
    search: NotRequired[dict[str, Any]]
    steps: NotRequired[list[WholeStep]]
    pipeline: NotRequired[_Pipeline]


class _State(TypedDict):
    """What a run goes on from."""

    source: NotRequired[dict[str, str]]
    carved: NotRequired[list[Any]]
    device: NotRequired[_Device]


class RunFolder:
    """An output folder, with the state a later run continues from.

    The state is one JSON object, replaced atomically: ``source`` identifies what was captured and
    ``device`` what was replayed and migrated; results under ``device`` are dropped when a kernel,
    the target or the session changes, captures are kept.

    Making one changes nothing in the folder. ``begin`` does, and ``continue_source`` after it: by
    then the request must be known to make sense. From the first of them that finds the folder
    there until ``close``, no other process can write to it.

    Parameters
    ----------
    path
        The folder.
    resume
        Continue in it if it has a run; an empty or missing folder starts one.
    force
        Delete an earlier run first: its files and folders, and nothing else in ``path``.

    Raises
    ------
    UsageError
        The folder has a run and neither ``resume`` nor ``force`` is given, or it has other files
        and no run; another process is writing to it.
    StoreError
        Its state cannot be read. Then ``force`` deletes nothing either: the folder may be anyone's.
    """

    def __init__(self, path: Path, *, resume: bool = False, force: bool = False) -> None:
        if resume and force:
            raise UsageError("--resume continues an earlier run, --force deletes it: give one")
        self.path = path
        self._is_resumed = resume
        self._is_forced = force
        self._lock: FolderLock | None = None
        self.state: dict[str, Any] = {}
        if path.exists() or path.is_symlink():
            self._take()

    def _take(self) -> None:
        """Lock the folder and read its state. Raises as making a ``RunFolder`` does."""
        # What is anybody's gets no lock either.
        self._check()
        self._lock = FolderLock(self.path, f"--out {self.path}")
        try:
            # Another run may have begun and ended in between.
            known = _read_state(self.path / _STATE) if self._check() else {}
            is_known = known.get("schema") == _SCHEMA and not isinstance(known["schema"], bool)
            if known and not self._is_forced:
                if not is_known:
                    raise StoreError(
                        f"{self.path / _STATE}: expected schema {_SCHEMA}, got "
                        f"{known.get('schema')!r}. Another version wrote it: start anew with "
                        "--force"
                    )
                typed(known, _State, self.path / _STATE, fix="Start anew with --force")
                self.state = known
        except BaseException:
            self.close()
            raise

    def _check(self) -> bool:
        """Return whether there is a run; raise ``UsageError`` if the folder cannot be used."""
        path = self.path
        if not path.is_dir():
            told = "it is a link to nothing" if path.is_symlink() else "it is a file"
            raise UsageError(f"--out {path}: {told}. Name a folder")
        present = sorted(
            child.name
            for child in path.iterdir()
            if child.name != LOCK_FILE and not is_scratch(child)
        )
        if present and _STATE not in present:
            raise UsageError(
                f"--out {path}: the folder exists and has no run in it ({', '.join(present[:3])}"
                f"{', ...' if len(present) > 3 else ''}). Name another folder"
            )
        if present and not self._is_resumed and not self._is_forced:
            raise UsageError(
                f"--out {path}: the folder has an earlier run. Continue it with --resume, delete "
                "it with --force, or name another folder"
            )
        return bool(present)

    def begin(self) -> None:
        """Begin the run: make the folder, and with ``force`` delete an earlier run in it.

        Raises
        ------
        UsageError, StoreError
            As making a ``RunFolder``; somebody else has made the folder meanwhile.
        """
        if self._lock is None:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take()
        sweep(self.path)
        if self._is_forced:
            for name in _OURS:
                delete(self.path / name)
        if not self.state:
            self.state = {"kind": _KIND, "schema": _SCHEMA}
            self.save()

    def close(self) -> None:
        """Let other processes write to the folder. May be called twice."""
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def captures(self) -> Path:
        """The capture store."""
        return self.path / "captures"

    @property
    def tests(self) -> Path:
        """The carved suite."""
        return self.path / "tests"

    @property
    def kernels(self) -> Path:
        """The kernel library."""
        return self.path / "kernels"

    @property
    def bundle(self) -> Path:
        """The bundle of the last good step."""
        return self.path / "bundle"

    @property
    def boundaries(self) -> Path:
        """The boundary of each step, ``000.json`` and so on."""
        return self.path / "boundaries"

    @property
    def lowered(self) -> Path:
        """The lowered module, without weights."""
        return self.path / "lowered.json"

    @property
    def device_side(self) -> Path:
        """The lowered module as it was prepared for the target, without weights."""
        return self.path / _DEVICE

    def save_boundary(self, step: int, boundary: Boundary) -> None:
        """Write the boundary of a step."""
        self.boundaries.mkdir(exist_ok=True)
        text = json.dumps(boundary.document(), indent=1) + "\n"
        write_file(self.boundaries / f"{step:03d}.json", text)

    def continue_source(self, identity: Mapping[str, str]) -> None:
        """Check that an earlier run captured the same thing, or say what will be captured.

        Only then its results are deleted: an interrupted run must not seem to have ended as an
        earlier one did.

        Raises
        ------
        UsageError
            The earlier run had another model, inputs or source.
        """
        known = self.state.get("source", identity)
        differing = [key for key, value in identity.items() if known.get(key) != value]
        if differing:
            raise UsageError(
                f"--resume {self.path}: the run in this folder had another "
                f"{' and '.join(differing)}. Give the same arguments as then, or start anew with "
                "--force"
            )
        for name in _ENDS:
            delete(self.path / name)
        if "source" not in self.state:
            self.state["source"] = dict(identity)
            self.save()

    def continue_device(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Return the results an earlier run has for the same device kernels, empty if none."""
        device: dict[str, Any] = self.state.get("device", {})
        if device.get("identity") != identity:
            device = {"identity": dict(identity)}
            delete(self.bundle)
            delete(self.boundaries)
            self.state["device"] = device
            self.save()
        return device

    def continue_search(self, device: dict[str, Any], search: Mapping[str, Any]) -> list[Step]:
        """Return the steps an earlier run made in the same search, none if it made another.

        Parameters
        ----------
        device
            Of ``continue_device``; its ``steps`` are where new ones are to be kept.
        search
            What decides which steps are made.
        """
        if device.get("search") != search:
            device.update(search=dict(search), steps=[])
            delete(self.bundle)
            delete(self.boundaries)
            self.save()
        return [Step.from_document(step) for step in device.setdefault("steps", [])]

    def save(self) -> None:
        """Write the state."""
        write_file(self.path / _STATE, json.dumps(self.state, indent=1) + "\n")


def read_device_side(folder: Path, *, trust: bool = False) -> tvm.IRModule | None:
    """Return what the run in a folder had for its target; None if it kept nothing.

    Raises
    ------
    StoreError
        The file is damaged, or calls what is not known to be harmless and ``trust`` is false.
    """
    path = folder / _DEVICE
    if not path.exists():
        return None
    fix = "Run the build again"
    data = read_bytes(path, fix=fix, max_bytes=MAX_JSON_BYTES)
    return read_module(data, str(path), fix=fix, trust=trust)


def _read_state(path: Path) -> dict[str, Any]:
    state = read_json(path, fix="Delete the folder, or name another one", max_bytes=_MAX_BYTES)
    if not isinstance(state, dict) or state.get("kind") != _KIND:
        raise StoreError(f"{path} is not the state of a run. Name another folder")
    return state

"""The output folder of a run: who may write to it, and what a resumed run finds there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.read import MAX_JSON_BYTES, read_bytes
from relax_tapml.foreign.module import read_module
from relax_tapml.migrate.step import Step
from relax_tapml.partition.boundary import Boundary

_STATE = "state.json"
_DEVICE = "device.json"
_SCHEMA = 2
_KIND = "relax_tapml.run"
# The state last: until it is deleted the folder can be seen to be ours.
_OURS = (
    *("result.json", "report.html", "captures", "tests", "kernels", "bundle"),
    *("boundaries", "lowered.json", _DEVICE, _STATE),
)
# What a run ends with: an interrupted one must not seem to have ended as an earlier one did.
_ENDS = ("result.json", "report.html")


class RunFolder:
    """An output folder, with the state a later run continues from.

    The state is one JSON object, replaced atomically: ``source`` identifies what was captured and
    ``device`` what was replayed and migrated; results under ``device`` are dropped when a kernel,
    the target or the session changes, captures are kept.

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
        and no run.
    StoreError
        Its state cannot be read. Then ``force`` deletes nothing either: the folder may be anyone's.
    """

    def __init__(self, path: Path, *, resume: bool = False, force: bool = False) -> None:
        if resume and force:
            raise UsageError("--resume continues an earlier run, --force deletes it: give one")
        self.path = path
        if path.exists() and not path.is_dir():
            raise UsageError(f"--out {path}: it is a file. Name a folder")
        present = sorted(child.name for child in path.iterdir()) if path.exists() else []
        if present and _STATE not in present:
            raise UsageError(
                f"--out {path}: the folder exists and has no run in it ({', '.join(present[:3])}"
                f"{', ...' if len(present) > 3 else ''}). Name another folder"
            )
        if present and not resume and not force:
            raise UsageError(
                f"--out {path}: the folder has an earlier run. Continue it with --resume, delete "
                "it with --force, or name another folder"
            )
        known = _read_state(path / _STATE) if present else None
        if force:
            for name in _OURS:
                _delete(path / name)
            known = None
        path.mkdir(parents=True, exist_ok=True)
        for name in _ENDS:
            _delete(path / name)
        if known is None:
            self.state: dict[str, Any] = {"kind": _KIND, "schema": _SCHEMA}
            self.save()
        elif known.get("schema") == _SCHEMA:
            self.state = known
        else:
            raise StoreError(
                f"{path / _STATE}: expected schema {_SCHEMA}, got {known.get('schema')!r}. Another "
                "version wrote it: start anew with --force"
            )

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
        write_atomically(self.boundaries / f"{step:03d}.json", text)

    def continue_source(self, identity: Mapping[str, str]) -> None:
        """Check that an earlier run captured the same thing, or say what will be captured.

        Raises
        ------
        UsageError
            The earlier run had another model, inputs or source.
        """
        known = self.state.get("source")
        if known is None:
            self.state["source"] = dict(identity)
            self.save()
            return
        differing = [key for key, value in identity.items() if known.get(key) != value]
        if differing:
            raise UsageError(
                f"--resume {self.path}: the run in this folder had another "
                f"{' and '.join(differing)}. Give the same arguments as then, or start anew with "
                "--force"
            )

    def continue_device(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Return the results an earlier run has for the same device kernels, empty if none."""
        device: dict[str, Any] = self.state.get("device", {})
        if device.get("identity") != identity:
            device = {"identity": dict(identity)}
            _delete(self.bundle)
            _delete(self.boundaries)
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
            _delete(self.bundle)
            _delete(self.boundaries)
            self.save()
        return [Step.from_document(step) for step in device["steps"]]

    def save(self) -> None:
        """Write the state."""
        write_atomically(self.path / _STATE, json.dumps(self.state, indent=1) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's text; readers see the old or the new, never a part."""
    scratch = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


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
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(
            f"{path} is damaged: {error}. Delete the folder, or name another one"
        ) from error
    if not isinstance(state, dict) or state.get("kind") != _KIND:
        raise StoreError(f"{path} is not the state of a run. Name another folder")
    return state


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

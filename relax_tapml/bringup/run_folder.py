"""The output folder of a run: who may write to it, and what a resumed run finds there."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.bringup._run_state import DeviceState, RepairState, RunState, SearchState
from relax_tapml.bringup.alone import Alone
from relax_tapml.bringup.carved_suite import CarvePlan
from relax_tapml.crossings import DeviceCall
from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.closing import Closing
from relax_tapml.files.lock import LOCK_FILE, FolderLock
from relax_tapml.files.read import MAX_JSON_BYTES, read_bytes, read_json
from relax_tapml.files.replace import delete, write_file
from relax_tapml.files.scratch import is_scratch, sweep
from relax_tapml.foreign.module import read_module, sealed_json
from relax_tapml.partition.boundary import Boundary
from relax_tapml.results.calls_file import LAST_GOOD, calls_file, write_calls
from relax_tapml.results.failing_kernels import FAILING
from relax_tapml.results.json_codec import encode, read_as
from relax_tapml.results.pipeline_result import PipelineRun
from relax_tapml.results.repair_result import SearchResult
from relax_tapml.results.step_result import StepResult
from relax_tapml.suite.open_suite import Suite, open_suite

_STATE = "state.json"
_DEVICE = "device.json"
_SCHEMA = 3
# A unit and a step have a few kilobytes each.
_MAX_BYTES = 32 * 1024 * 1024
_KIND = "relax_tapml.run"
# The state last: until it is deleted the folder can be seen to be ours.
_OURS = (
    *("result.json", "report.html", "captures", "tests", "kernels", "bundle"),
    *("import", "boundaries", "repairs", FAILING, "lowered.json", _DEVICE, _STATE),
)
# What a run ends with.
_ENDS = ("result.json", "report.html", FAILING)


class RunFolder(Closing):
    """An output folder, with the state a later run continues from.

    The state is a ``RunState``, replaced on disk in one move: ``source`` identifies what was
    captured and ``device`` what was replayed and migrated; what is known of a device is dropped
    when a kernel, the target or the session changes, captures are kept.

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
        self.state: RunState | None = None
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
            if known and not self._is_forced:
                schema = known.get("schema")
                if schema != _SCHEMA or isinstance(schema, bool):
                    raise StoreError(
                        f"{self.path / _STATE}: expected schema {_SCHEMA}, got {schema!r}. Another "
                        "version wrote it: start anew with --force"
                    )
                fix = "Start anew with --force"
                self.state = read_as(known, RunState, self.path / _STATE, fix=fix)
        except BaseException:
            self.close()
            raise

    def _check(self) -> bool:
        """Return whether there is a run; raise ``UsageError`` if the folder cannot be used."""
        path = self.path
        if not path.is_dir():
            what = "it is a link to nothing" if path.is_symlink() else "it is a file"
            raise UsageError(f"--out {path}: {what}. Name a folder")
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
        if self.state is None:
            self._keep(RunState(kind=_KIND, schema=_SCHEMA))

    def close(self) -> None:
        """Let other processes write to the folder. May be called twice."""
        if self._lock is not None:
            self._lock.close()

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
    def import_faults(self) -> Path:
        """Scripts that show the nodes which are imported wrongly; only there if some are."""
        return self.path / "import"

    @property
    def bundle(self) -> Path:
        """The bundle of the last good step."""
        return self.path / "bundle"

    @property
    def repairs(self) -> Path:
        """Other kernels for units that failed, as a pass; only there if there are some."""
        return self.path / "repairs"

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

    @property
    def kept(self) -> RunState:
        """The state of a run that has begun."""
        assert self.state is not None
        return self.state

    @property
    def kept_device(self) -> DeviceState:
        """What is known of the device, once ``continue_device`` was called."""
        assert self.kept.device is not None
        return self.kept.device

    def continue_source(self, identity: Mapping[str, str], lowered: tvm.IRModule) -> None:
        """Check that an earlier run captured the same thing, or keep what will be captured.

        Only then its results are deleted: an interrupted run must not seem to have ended as an
        earlier one did.

        Raises
        ------
        UsageError
            The earlier run had another model, inputs or source.
        """
        known = self.kept.source or identity
        differing = [key for key, value in identity.items() if known.get(key) != value]
        if differing:
            raise UsageError(
                f"--resume {self.path}: the run in this folder had another "
                f"{' and '.join(differing)}. Give the same arguments as then, or start anew with "
                "--force"
            )
        for name in _ENDS:
            delete(self.path / name)
        if self.kept.source is None:
            self._keep(replace(self.kept, source=dict(identity)))
        write_file(self.lowered, sealed_json(lowered))

    def suite(self, plan: CarvePlan) -> Suite | None:
        """Return the suite of an earlier run, if it was carved so."""
        return open_suite(self.tests) if self.is_carved(plan) else None

    def is_carved(self, plan: CarvePlan) -> bool:
        """Whether an earlier run has left a suite that was carved so."""
        return self.kept.carved == plan and self.tests.is_dir()

    def keep_carved(self, plan: CarvePlan) -> None:
        """Keep how the suite was carved."""
        if self.kept.carved != plan:
            self._keep(replace(self.kept, carved=plan))

    def continue_device(self, identity: Mapping[str, str], units: tvm.IRModule) -> None:
        """Drop what an earlier run found with other device kernels, and keep the target's units.

        A failing kernel is found there afterwards, whatever its pipeline needs to be run.
        """
        write_file(self.device_side, sealed_json(units))
        device = self.kept.device
        if device is None or device.identity != identity:
            device = DeviceState(identity=dict(identity))
            self._drop_search()
            self._keep(replace(self.kept, device=device))

    def alone(self, units: Collection[str]) -> Alone | None:
        """Return how these units did alone in an earlier run; None if it did not judge them all."""
        known = self.kept_device
        if known.alone is None or known.alone.keys() != set(units):
            return None
        return Alone(units=known.alone, devices=known.devices or {})

    def keep_alone(self, alone: Alone) -> None:
        """Keep how the units did alone, if all were judged."""
        if not alone.lost and self.kept_device.alone != alone.units:
            self._keep_device(alone=dict(alone.units), devices=dict(alone.devices))

    def earlier_steps(
        self, strategy: str, batches: Sequence[Sequence[str]], reason: str = ""
    ) -> list[StepResult]:
        """Return the steps of an earlier run of the same search; see ``MigrationLog``."""
        names = tuple(tuple(batch) for batch in batches)
        search = self.kept_device.search
        if search is None or (search.strategy, search.batches) != (strategy, names):
            search = SearchState(strategy=strategy, batches=names, reason=reason)
            self._drop_search()
            self._keep_device(search=search)
        return list(search.steps)

    def earlier_choice(self, batches: Sequence[Sequence[str]]) -> tuple[str, str] | None:
        """Return the strategy that an earlier run chose, and why; see ``MigrationLog``."""
        search = self.kept_device.search
        if search is None or not search.reason or search.batches != tuple(map(tuple, batches)):
            return None
        return search.strategy, search.reason

    def add_step(self, step: StepResult, boundary: Boundary) -> None:
        """Keep one more step, and its boundary as a file; see ``MigrationLog``."""
        search = self.kept_device.search
        assert search is not None
        self.boundaries.mkdir(exist_ok=True)
        text = json.dumps(boundary.document(), indent=1) + "\n"
        path = self.boundaries / f"{len(search.steps):03d}.json"
        write_file(path, text)
        write_calls(calls_file(path), step.calls)
        self._keep_device(search=replace(search, steps=(*search.steps, step)))

    def keep_last_good(self, calls: Sequence[DeviceCall]) -> None:
        """Keep the device calls of the bundle; see ``MigrationLog``."""
        self.boundaries.mkdir(exist_ok=True)
        write_calls(self.boundaries / LAST_GOOD, calls)

    def earlier_pipeline(self, restored: Collection[str]) -> PipelineRun | None:
        """Return an earlier run of the pipeline's module; see ``MigrationLog``."""
        known = self.kept_device.pipeline
        is_same = known is not None and known.result.restored == tuple(restored)
        return known if is_same else None

    def add_pipeline(self, run: PipelineRun) -> None:
        """Keep the run of the pipeline's module."""
        self._keep_device(pipeline=run)

    def earlier_search(
        self, units: Collection[str], budget_s: float
    ) -> tuple[SearchResult, ...] | None:
        """Return the repairs that an earlier run found for these units; None if it did not look."""
        known = self.kept_device.repairs
        if known is None or known.budget_s != budget_s:
            return None
        is_same = {one.unit for one in known.found} == set(units)
        return known.found if is_same else None

    def keep_search(self, found: Sequence[SearchResult], budget_s: float) -> None:
        """Keep the repairs that were found."""
        self._keep_device(repairs=RepairState(budget_s=budget_s, found=tuple(found)))

    def _drop_search(self) -> None:
        delete(self.bundle)
        delete(self.boundaries)
        delete(self.repairs)

    def _keep_device(self, **changes: Any) -> None:
        self._keep(replace(self.kept, device=replace(self.kept_device, **changes)))

    def _keep(self, state: RunState) -> None:
        self.state = state
        # Without an indent, which json writes in Python: it is replaced after every step.
        write_file(self.path / _STATE, json.dumps(encode(state)) + "\n")


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

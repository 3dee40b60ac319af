import contextlib
import json
import multiprocessing
import os
import re

import pytest
import tvm
from damaged_json import damaged
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_tapml.bringup._run_state import DeviceState, RunState
from relax_tapml.bringup.alone import Alone
from relax_tapml.bringup.run_folder import RunFolder
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import StoreError, UsageError
from relax_tapml.migrate.driver import outcome_of
from relax_tapml.results.json_codec import encode
from relax_tapml.results.unit_result import UnitResult

MODULE = tvm.IRModule()


def refused(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


@pytest.fixture
def run(tmp_path):
    """A folder with a run, and a file of the user's beside it."""
    with begun(tmp_path / "run") as folder:
        pass
    for path in (folder.captures, folder.tests, folder.kernels, folder.bundle):
        path.mkdir()
        (path / "file").write_text("ours")
    (folder.path / "result.json").write_text("{}")
    (folder.path / "notes.txt").write_text("mine")
    return folder.path


def begun(path, **options):
    folder = RunFolder(path, **options)
    folder.begin()
    return folder


def everything(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} - {".lock"}


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"force": True}])
def test_an_empty_or_missing_folder_starts_a_run(tmp_path, options):
    """Whatever is asked, there is nothing to continue or to replace."""
    (tmp_path / "empty").mkdir()
    for name in ("empty", "deep/missing"):
        folder = begun(tmp_path / name, **options)
        assert folder.state == RunState(kind="relax_tapml.run", schema=3)
        assert everything(folder.path) == {"state.json"}


def test_a_run_is_neither_continued_nor_replaced_unasked(run):
    """Nothing is overwritten by accident."""
    before = everything(run)
    with refused(
        UsageError,
        f"--out {run}: the folder has an earlier run. Continue it with --resume, delete it with "
        "--force, or name another folder",
    ):
        RunFolder(run)
    assert everything(run) == before


def test_force_deletes_the_run_and_nothing_else(run):
    """A file no run has written stays; nothing goes before the run begins."""
    before = everything(run)
    with RunFolder(run, force=True) as folder:
        assert everything(run) == before
        folder.begin()
    assert everything(run) == {"notes.txt", "state.json"}
    assert (run / "notes.txt").read_text() == "mine"


def test_force_does_not_follow_links(run, tmp_path):
    """A link in the folder is deleted, what it leads to is not."""
    elsewhere = tmp_path / "kernels"
    (run / "kernels").rename(elsewhere)
    (run / "kernels").symlink_to(elsewhere)
    begun(run, force=True)
    assert not (run / "kernels").is_symlink()
    assert (elsewhere / "file").read_text() == "ours"


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"force": True}])
def test_a_folder_of_something_else_is_left_alone(tmp_path, options):
    """A project with a folder ``tests`` is no run, even with --force."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_mine.py").write_text("mine")
    with refused(
        UsageError,
        f"--out {tmp_path}: the folder exists and has no run in it (tests). Name another folder",
    ):
        RunFolder(tmp_path, **options)
    assert everything(tmp_path) == {"tests", "tests/test_mine.py"}


@pytest.mark.parametrize("options", [{"resume": True}, {"force": True}])
def test_a_state_of_something_else_is_left_alone(tmp_path, options):
    """Other tools have a state.json, too."""
    (tmp_path / "state.json").write_text('{"schema": 2, "resources": []}')
    (tmp_path / "tests").mkdir()
    with refused(
        StoreError, f"{tmp_path / 'state.json'} is not the state of a run. Name another folder"
    ):
        RunFolder(tmp_path, **options)
    assert everything(tmp_path) == {"tests", "state.json"}


@pytest.mark.parametrize("options", [{"resume": True}, {"force": True}])
def test_a_damaged_state_is_told(run, options):
    """Nothing is guessed from half a file, and nothing is deleted."""
    before = everything(run)
    (run / "state.json").write_text('{"schema": ')
    with refused(
        StoreError,
        f"{run / 'state.json'} is damaged: Expecting value: line 1 column 12 (char 11). Delete the "
        "folder, or name another one",
    ):
        RunFolder(run, **options)
    assert everything(run) == before


def test_a_state_of_another_version_can_only_be_replaced(run):
    """Its results may mean something else."""
    (run / "state.json").write_text('{"kind": "relax_tapml.run", "schema": 4}')
    with refused(
        StoreError,
        f"{run / 'state.json'}: expected schema 3, got 4. Another version wrote it: start anew "
        "with --force",
    ):
        RunFolder(run, resume=True)
    assert begun(run, force=True).state.schema == 3


def test_a_file_is_no_folder(tmp_path):
    """The file stays."""
    (tmp_path / "out").write_text("mine")
    with refused(UsageError, f"--out {tmp_path / 'out'}: it is a file. Name a folder"):
        RunFolder(tmp_path / "out", force=True)
    assert (tmp_path / "out").read_text() == "mine"


def test_another_source_is_not_mixed_in(run):
    """What differs is named; the captures are of the first, and so is its result."""
    for _ in range(2):
        with begun(run, resume=True) as folder:
            folder.continue_source({"model": "1", "inputs": "2", "source": "3"}, MODULE)
    (run / "result.json").write_text("{}")
    with (
        begun(run, resume=True) as folder,
        refused(
            UsageError,
            f"--resume {run}: the run in this folder had another model and source. Give the same "
            "arguments as then, or start anew with --force",
        ),
    ):
        folder.continue_source({"model": "x", "inputs": "2", "source": "y"}, MODULE)
    assert (run / "result.json").exists()


def test_results_of_an_earlier_run_go_once_the_new_one_is_known_to_be_the_same(run):
    """An interrupted run does not seem to have ended as an earlier one did."""
    with begun(run, resume=True) as folder:
        assert (run / "result.json").exists()
        folder.continue_source({"model": "1"}, MODULE)
        assert not (run / "result.json").exists()


def test_results_are_kept_for_the_same_device_only(run):
    """Another kernel, target or session starts them anew; what was captured stays."""
    alone = Alone(units={"matmul": UnitResult(name="matmul", verdict=Verdict.PASS, cases=1)})
    with begun(run, resume=True) as folder:
        folder.continue_source({"model": "1"}, MODULE)
        folder.continue_device({"target": "llvm"}, MODULE)
        folder.keep_alone(alone)
    with begun(run, resume=True) as again:
        again.continue_device({"target": "llvm"}, MODULE)
        assert again.alone(["matmul"]) == alone
        assert again.alone(["matmul", "softmax"]) is None
        again.continue_device({"target": "cuda"}, MODULE)
        assert again.alone(["matmul"]) is None
    with RunFolder(run, resume=True) as last:
        assert last.kept.source == {"model": "1"}
        assert last.kept_device == DeviceState(identity={"target": "cuda"})


def test_a_state_with_other_types_is_refused(run):
    """It says where, and what helps."""
    for text in ('{"source": 1}', '{"device": {}}', '{"device": {"identity": {}, "alone": [1]}}'):
        state = f'{{"kind": "relax_tapml.run", "schema": 3, {text[1:]}'
        (run / "state.json").write_text(state)
        with pytest.raises(StoreError, match=r"state\.json is damaged: .*\$.*--force"):
            RunFolder(run, resume=True)
        with RunFolder(run, force=True) as folder:
            assert folder.state is None


@settings(max_examples=200, derandomize=True)
@given(data=st.data())
def test_any_other_value_in_a_state_is_refused_or_harmless(data, finished):
    """It never ends in an error that does not say which folder is damaged."""
    path = finished / "state.json"
    original = path.read_text()
    state = json.loads(original)
    path.write_text(json.dumps(data.draw(damaged(state))))
    try:
        with (
            contextlib.suppress(StoreError, UsageError),
            RunFolder(finished, resume=True) as folder,
        ):
            folder.begin()
            folder.continue_source(state["source"], MODULE)
            folder.continue_device(state["device"]["identity"], MODULE)
            search = state["device"]["search"]
            for step in folder.earlier_steps(search["strategy"], search["batches"]):
                assert outcome_of(step)
                assert encode(step)
    finally:
        path.write_text(original)


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"force": True}])
def test_a_folder_that_another_process_writes_to_is_left_alone(tmp_path, options):
    """Whether it was there before or was made meanwhile; the process is named."""

    def second(name):
        folder = tmp_path / name
        late = RunFolder(folder, **options) if name == "late" else None
        ready.set()
        go.wait()
        try:
            late.begin() if late else RunFolder(folder, **options)
        except UsageError as error:
            is_told = f"process {os.getppid()} " in str(error)
            told = is_told or (not options and "has an earlier run" in str(error))
            os._exit(0 if told else 4)
        os._exit(5)

    context = multiprocessing.get_context("fork")
    for name in ("late", "early"):
        ready, go = context.Event(), context.Event()
        process = context.Process(target=second, args=(name,))
        process.start()
        ready.wait()
        with begun(tmp_path / name):
            before = everything(tmp_path / name)
            go.set()
            process.join()
            assert process.exitcode == 0
            assert everything(tmp_path / name) == before

import json
import re

import pytest

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.migrate.run_folder import RunFolder, write_atomically


def refused(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


@pytest.fixture
def run(tmp_path):
    """A folder with a run, and a file of the user's beside it."""
    folder = RunFolder(tmp_path / "run")
    for path in (folder.captures, folder.tests, folder.kernels, folder.bundle):
        path.mkdir()
        (path / "file").write_text("ours")
    (folder.path / "result.json").write_text("{}")
    (folder.path / "notes.txt").write_text("mine")
    return folder.path


def everything(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"force": True}])
def test_an_empty_or_missing_folder_starts_a_run(tmp_path, options):
    """Whatever is asked, there is nothing to continue or to replace."""
    (tmp_path / "empty").mkdir()
    for name in ("empty", "deep/missing"):
        folder = RunFolder(tmp_path / name, **options)
        assert folder.state == {"kind": "relax_tapml.run", "schema": 2}
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
    """A file no run has written stays."""
    RunFolder(run, force=True)
    assert everything(run) == {"notes.txt", "state.json"}
    assert (run / "notes.txt").read_text() == "mine"


def test_force_does_not_follow_links(run, tmp_path):
    """A link in the folder is deleted, what it leads to is not."""
    elsewhere = tmp_path / "kernels"
    (run / "kernels").rename(elsewhere)
    (run / "kernels").symlink_to(elsewhere)
    RunFolder(run, force=True)
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
    (run / "state.json").write_text('{"kind": "relax_tapml.run", "schema": 3}')
    with refused(
        StoreError,
        f"{run / 'state.json'}: expected schema 2, got 3. Another version wrote it: start anew "
        "with --force",
    ):
        RunFolder(run, resume=True)
    assert RunFolder(run, force=True).state["schema"] == 2


def test_a_file_is_no_folder(tmp_path):
    """The file stays."""
    (tmp_path / "out").write_text("mine")
    with refused(UsageError, f"--out {tmp_path / 'out'}: it is a file. Name a folder"):
        RunFolder(tmp_path / "out", force=True)
    assert (tmp_path / "out").read_text() == "mine"


def test_another_source_is_not_mixed_in(run):
    """What differs is named; the captures are of the first."""
    RunFolder(run, resume=True).continue_source({"model": "1", "inputs": "2", "source": "3"})
    RunFolder(run, resume=True).continue_source({"model": "1", "inputs": "2", "source": "3"})
    with refused(
        UsageError,
        f"--resume {run}: the run in this folder had another model and source. Give the same "
        "arguments as then, or start anew with --force",
    ):
        RunFolder(run, resume=True).continue_source({"model": "x", "inputs": "2", "source": "y"})


def test_results_are_kept_for_the_same_device_only(run):
    """Another kernel, target or session starts them anew; what was captured stays."""
    folder = RunFolder(run, resume=True)
    folder.continue_source({"model": "1"})
    folder.continue_device({"target": "llvm"})["alone"] = {"matmul": "pass"}
    folder.save()
    again = RunFolder(run, resume=True)
    assert again.continue_device({"target": "llvm"})["alone"] == {"matmul": "pass"}
    assert again.continue_device({"target": "cuda"}) == {"identity": {"target": "cuda"}}
    last = RunFolder(run, resume=True).state
    assert last["source"] == {"model": "1"}
    assert "alone" not in last["device"]


def test_a_write_that_fails_leaves_the_old_text(tmp_path, monkeypatch):
    """Readers see the old or the new text, and no scratch file is left."""
    path = tmp_path / "state.json"
    write_atomically(path, json.dumps({"old": 1}))

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", fail)
        with pytest.raises(OSError, match=r"^disk full$"):
            write_atomically(path, "new")
    assert json.loads(path.read_text()) == {"old": 1}
    assert everything(tmp_path) == {"state.json"}

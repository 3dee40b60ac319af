"""The campaigns see what is wrong, and find nothing wrong in a sample."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are watched as Linux can")


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)


@pytest.fixture
def place(tmp_path):
    from campaign_child import Place, adopt_orphans

    yield Place(tmp_path / "place")
    adopt_orphans(is_on=False)


@pytest.fixture
def ended(place):
    """How a fork ended in which nothing was wrong."""
    from campaign_child import Limits

    return place.run(lambda: 0, Limits())


def _leaves_a_process():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)


def _prints_no_json():
    sys.stdout.write('{"error": NaN}')


def _touches(path):
    # By another program: nothing of Python's sees it.
    return lambda: subprocess.run(["touch", path], check=True).returncode


def _raises():
    raise KeyError("name")


def _wrongs(place):
    """What work does for each kind of outcome that is wrong."""
    return {
        "planted code ran": _touches(place.marks / "ran"),
        "wrote outside": _touches(place.canary / "new"),
        "ended by a signal": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "hung": lambda: time.sleep(600),
        "memory": lambda: len(b"x" * (256 << 20)) and 0,
        "internal error": lambda: 70,
        "raised": _raises,
        "wrong checksum accepted": lambda: 0,
        "blamed": lambda: 1,
        "control characters": lambda: sys.stdout.write("a\x1b[2Jb") and 0,
        "malformed": _prints_no_json,
        "left a process": _leaves_a_process,
        "left a file": lambda: (place.temporary / "file").write_text("") and None,
    }


def _outcome(place, work, **mutation):
    from campaign_child import Limits
    from fuzz_kinds import Mutation
    from fuzz_outcome import judged

    limits = Limits(seconds=2 if mutation.pop("hangs", False) else 120, peak=128 << 20)
    place.clean()
    ended = place.run(work, limits)
    return judged(Mutation(description="", work=work, **mutation), ended, limits)


def test_every_wrong_outcome_is_seen(place):
    """And nothing else is called so."""
    from fuzz_outcome import ACCEPTED, REFUSED, WRONG

    options = {
        "hung": {"hangs": True},
        "wrong checksum accepted": {"must_refuse": True},
        "blamed": {"may_blame": False},
        "malformed": {"is_json": True},
    }
    wrongs = _wrongs(place)
    assert set(wrongs) == set(WRONG)
    seen = {kind: _outcome(place, wrongs[kind], **options.get(kind, {})).kind for kind in WRONG}
    assert seen == {kind: kind for kind in WRONG}
    assert _outcome(place, lambda: 0).kind == ACCEPTED
    assert _outcome(place, lambda: 1).kind == ACCEPTED
    assert _outcome(place, lambda: sys.stderr.write("error: no") and 3).kind == REFUSED
    assert _outcome(place, lambda: 3).kind == "malformed"


@pytest.mark.parametrize("change", ["open", "rename", "unlink", "through a link"])
def test_every_change_outside_is_seen(place, tmp_path, change):
    """Also where no trap lies, and where a link leads out."""
    victim = tmp_path / "victim"
    victim.write_text("x")
    (place.case / "link").symlink_to(victim)
    (place.case / "own").write_text("x")

    def work():
        if change == "open":
            victim.write_text("y")
        elif change == "rename":
            (place.case / "own").rename(tmp_path / "moved")
        elif change == "unlink":
            victim.unlink()
        else:
            (place.case / "link").write_text("y")

    from campaign_child import Limits

    assert place.run(work, Limits()).outside


def test_a_mutation_depends_on_its_name_alone(tmp_path):
    """The same name damages the same thing in the same way, wherever it lies."""
    from campaign_child import Place
    from fuzz_operators import damaged_bytes, damaged_document

    def damages(root):
        import random

        place = Place(root)
        document = {"a": [1, 2, {"b": "c"}], "d": None}
        found = []
        for index in range(50):
            draw = random.Random(f"1:x:{index}")
            found.append(damaged_document(document, draw, place)[1].replace(str(root), ""))
            found.append(damaged_bytes(b"abcdefgh", draw)[1])
        return found

    assert damages(tmp_path / "one") == damages(tmp_path / "two")


@pytest.fixture
def trial(place, tmp_path):
    """A trial whose reference is a run of two files."""
    import random

    from chaos_trial import INLINE, Bench, Trial

    reference = tmp_path / "reference"
    reference.mkdir()
    document = {"verdict": "pass", "culprits": [], "units": [{"name": "a", "verdict": "pass"}]}
    (reference / "result.json").write_text(json.dumps({**document, "seconds": 1}))
    (reference / "state.json").write_text("{}")
    bench = Bench(saved=tmp_path, references={INLINE: reference}, can_mount=False)
    draw = random.Random(0)
    made = Trial(bench=bench, place=place, draw=draw, name="0:kill:0", scenario="kill", index=0)
    made.out.mkdir()
    (made.out / "result.json").write_text(json.dumps({**document, "seconds": 2}))
    (made.out / "state.json").write_text("{}")
    return made


def _edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_chaos_finds_nothing_in_what_is_right(trial, ended, monkeypatch):
    from chaos_trial import INLINE

    monkeypatch.setattr(trial, "run", lambda work, before=None: ended)
    trial.expect(ended, (0,), ("disk",))
    trial.expect(replace(ended, exit_code=3, err="error: the disk is full"), (0, 3), ("disk",))
    trial.expect_nobody_blamed()
    trial.expect_end(INLINE)
    assert trial.problems == []


@pytest.mark.parametrize(
    "change",
    [
        {"exit_code": 1},
        {"exit_code": None, "killed_by": 11},
        {"exit_code": None, "is_hung": True},
        {"exit_code": 3, "err": "error: something"},
        {"exit_code": 3, "err": "error: the disk\nThis is a bug of relax_tapml."},
        {"processes": ("python",)},
        {"outside": ("file",)},
    ],
    ids=str,
)
def test_chaos_finds_a_wrong_end(trial, ended, change):
    trial.expect(replace(ended, **change), (0, 3), ("disk",))
    assert trial.problems


@pytest.mark.parametrize("wrong", ["half a file", "verdict", "file", "missing", "hidden", "tmp"])
def test_chaos_finds_what_is_left(trial, ended, monkeypatch, wrong):
    from chaos_trial import INLINE

    monkeypatch.setattr(trial, "run", lambda work, before=None: ended)
    if wrong == "half a file":
        (trial.out / "state.json").write_text("{")
    elif wrong == "verdict":
        _edit(trial.out / "result.json", verdict="mismatch")
    elif wrong == "file":
        (trial.out / "more").write_text("")
    elif wrong == "missing":
        (trial.out / "state.json").unlink()
    elif wrong == "hidden":
        (trial.out / ".state.json-17").write_text("")
    else:
        (trial.place.temporary / "left").mkdir()
    trial.expect_end(INLINE)
    assert trial.problems


def test_chaos_finds_a_blamed_unit(trial):
    _edit(trial.out / "result.json", units=[{"name": "a", "verdict": "crash", "reason": "full"}])
    trial.expect_nobody_blamed()
    assert "full" in trial.problems[0]


def _sample(name, *options):
    command = [sys.executable, SCRIPTS / name, *options, "--jobs", "2"]
    environment = {**os.environ, "RELAX_TAPML_TEST_TORCH": "1"}  # They import all modules.
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)


def test_nothing_is_wrong_with_some_damaged_artefacts():
    """Of all kinds but programs of PyTorch, whose import takes longer than all others."""
    from fuzz_artefacts import NEEDS_TORCH
    from fuzz_kinds import ARTEFACTS

    kinds = [word for kind in ARTEFACTS if kind != NEEDS_TORCH for word in ("--artefact", kind)]
    done = _sample("fuzz_artefacts.py", "--mutations", "39", "--seed", "17", *kinds)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "39 mutations in" in done.stdout


def test_nothing_is_wrong_after_some_kills_and_faults():
    """One of each sort that takes seconds, and whose end is not a matter of a moment."""
    names = (
        *("kill:0", "pair:0", "disk-out:0", "disk-kernels:0", "compiler:0"),
        *("descriptors:0", "tmpdir:0", "permissions:0", "names:0", "output:0"),
    )
    # With room for the log of a new index, and none for the index.
    trials = [*(f"17:{name}" for name in names), "4:disk-out:3"]
    only = [word for trial in trials for word in ("--only", trial)]
    done = _sample("chaos.py", *only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(trials)} trials in" in done.stdout

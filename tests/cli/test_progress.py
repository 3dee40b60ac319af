from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from relax_tapml.cli.progress import Progress
from relax_tapml.progress import Reporter


def reporter_to(stream: io.StringIO, *, is_terminal: bool = False) -> Reporter:
    return Progress(Console(file=stream, highlight=False, width=80, force_terminal=is_terminal))


def test_a_finished_stage_leaves_one_line() -> None:
    """Away from a terminal nothing else is written; the last text stays."""
    stream = io.StringIO()
    with reporter_to(stream).stage("capture") as stage:
        stage.say("starting")
        stage.update(1, 4)
        stage.say("189 sites x 4 inputs: [41 MB] stored")
        assert stream.getvalue() == ""
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("capture  189 sites x 4 inputs: [41 MB] stored  ")
    assert line.endswith("ms")


def test_a_failed_stage_is_marked_and_lets_the_error_through() -> None:
    stream = io.StringIO()

    def build() -> None:
        with reporter_to(stream).stage("kernels") as stage:
            stage.say("3 of 26 built")
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        build()
    assert "3 of 26 built, failed" in stream.getvalue()


def test_a_long_text_is_neither_cut_nor_wrapped() -> None:
    stream = io.StringIO()
    text = "unit " * 40
    with reporter_to(stream).stage("replay") as stage:
        stage.say(text)
    (line,) = stream.getvalue().splitlines()
    assert text in line


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_gets_lines_that_fit(width: int) -> None:
    """While a stage runs it is one line; when it has ended, all of its text is there."""
    stream = io.StringIO()
    console = Console(file=stream, highlight=False, width=width, force_terminal=True)
    progress = Progress(console)
    progress.expect({"carve": 100.0, "replay": 60.0})
    text = "33 units, 75 cases, 58 probes, 6 dropped, result.json has the reasons; all pass on llvm"
    with progress.stage("carve") as stage:
        stage.update(1, 4)
        stage.say(text)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "\n", stream.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    assert text.split() == [word for word in text.split() if word in " ".join(lines)]
    assert lines[-1].endswith("ms")


def test_a_terminal_sees_the_stage_move() -> None:
    stream = io.StringIO()
    with reporter_to(stream, is_terminal=True).stage("migrate") as stage:
        stage.update(3, 26)
        stage.say("moving gelu")
    assert stream.getvalue().count("migrate") >= 2
    assert "moving gelu" in stream.getvalue()


def test_a_long_stage_says_in_a_log_how_far_it_is() -> None:
    """What it does, the share that is done, and the time left, now and then."""
    stream = io.StringIO()
    progress = Progress(Console(file=stream, highlight=False, width=80), interval_s=0.02)
    progress.expect({"carve": 100.0, "replay": 60.0})
    with progress.stage("carve") as stage:
        stage.update(0, 4)
        stage.update(1, 4)
        stage.say("1 of 4 units carved")
        end = time.monotonic() + 20
        while "1 of 4" not in stream.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
    beat, *_, last = stream.getvalue().splitlines()
    assert re.fullmatch(
        r"carve    1 of 4 units carved: 25%, under 1 s so far, .*\d s left, 60 s in all",
        beat,
    )
    assert last.startswith("carve    1 of 4 units carved ")


def test_a_terminal_sees_the_time_left() -> None:
    """As expected, until the stage itself shows how fast it is."""
    stream = io.StringIO()
    progress = Progress(Console(file=stream, width=120, force_terminal=True))
    progress.expect({"carve": 100.0, "replay": 60.0})
    with progress.stage("carve"):
        pass
    assert "about 2 min left" in stream.getvalue() or "about 100 s left" in stream.getvalue()


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """stdout holds results only."""
    with Progress().stage("carve"):
        pass
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("carve ")

from __future__ import annotations

import io

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


def test_a_terminal_sees_the_stage_move() -> None:
    stream = io.StringIO()
    with reporter_to(stream, is_terminal=True).stage("migrate") as stage:
        stage.update(3, 26)
        stage.say("moving gelu")
    assert stream.getvalue().count("migrate") >= 2
    assert "moving gelu" in stream.getvalue()


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """stdout holds results only."""
    with Progress().stage("carve"):
        pass
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("carve ")

"""Text of C++ on stderr, without what TVM repeats."""

from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.cli._repeated_warnings import Folding

FAST = "[19:13:53] /project/include/tvm/topi/transform.h:1261: Warning: Fast mode segfaults"
OTHER = "[19:13:54] /project/src/relax/ir/block_builder.cc:67: Warning: destroyed"
COMMAND = """
import os, sys
from argparse import Namespace
from relax_tapml.cli.exit import guarded
def command(args):
    for number in range(4):
        os.write(2, b"[19:13:5%d] /x/transform.h:1: Warning: Fast mode\\n" % number)
    sys.stderr.write("told by Python\\n")
    os.write(2, b"no line break")
    if DIES:
        os.kill(os.getpid(), 9)
    return 1
sys.exit(guarded(command, is_folded=True)(Namespace()))
"""


@given(st.lists(st.integers(0, 40), max_size=20), st.booleans())
def test_a_warning_is_printed_once_however_the_text_comes(cuts: list[int], ends: bool) -> None:
    """And counted at the end; all other text is the same, in the same order."""
    lines = [FAST, "text", OTHER, FAST.replace("19:13:53", "19:13:59"), "", "text", FAST]
    text = ("\n".join(lines) + ("\n" if ends else "")).encode()
    folding, printed = Folding(), b""
    places = sorted({min(7 * cut, len(text)) for cut in cuts} | {0, len(text)})
    for start, stop in zip(places, [*places[1:], len(text)], strict=True):
        printed += folding.feed(text[start:stop])
    printed += folding.end()
    last = [] if ends else [FAST]  # Without its end a line may be another one.
    note = f"TVM printed this warning {3 if ends else 2} times: Fast mode segfaults"
    assert printed.decode().splitlines() == [FAST, "text", OTHER, "", "text", *last, note]


def test_a_prompt_is_not_kept_back() -> None:
    assert Folding().feed(b"password: ") == b"password: "


def ran(dies: bool) -> subprocess.CompletedProcess[str]:
    text = COMMAND.replace("DIES", str(dies))
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, env=dict(os.environ)
    )


def test_a_command_prints_a_warning_of_tvm_once() -> None:
    """Nothing else is lost, and the exit code is the command's."""
    done = ran(dies=False)
    assert done.returncode == 1
    assert done.stderr.count("Warning: Fast mode") == 1
    assert "told by Python\n" in done.stderr
    assert done.stderr.endswith("no line break\nTVM printed this warning 4 times: Fast mode\n")


def test_text_before_a_crash_is_not_lost() -> None:
    done = ran(dies=True)
    assert done.returncode == -9
    assert "no line break" in done.stderr

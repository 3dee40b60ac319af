"""What a command imports before it needs it: TVM and torch take seconds, on a busy machine many."""

import os
import subprocess
import sys

import pytest

HEAVY = ("tvm", "torch", "transformers")
RUN = (
    "import sys; from importlib import import_module\n"
    "module, *argv = sys.argv[1:]\n"
    "try: code = import_module(module).main(argv)\n"
    "except SystemExit as end: code = end.code\n"
    f"print('loaded', [name for name in {(*HEAVY, 'rich')!r} if name in sys.modules], code)"
)
COMMANDS = ("replay", "explain", "report", "reproduce", "merge", "doctor", "fleet", "capture")


def started(module, *argv):
    """Run a command line in a fresh process; return what it has imported, and its exit code."""
    command = [sys.executable, "-c", RUN, module, *map(str, argv)]
    environment = {**os.environ, "RELAX_TAPML_TEST_TORCH": "1"}  # Or its import would not be seen.
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return ended.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "argv", [["--help"], *([name, "--help"] for name in COMMANDS), ["nothing"]]
)
def test_help_and_wrong_usage_import_nothing_heavy(argv):
    code = 2 if argv == ["nothing"] else 0
    assert started("relax_tapml.cli.main", *argv) == f"loaded [] {code}"


@pytest.mark.parametrize("argv", [["--help"], ["model", "--by", "nothing"]])
def test_the_build_parses_its_arguments_first(argv):
    code = 0 if argv == ["--help"] else 2
    assert started("relax_tapml.build", *argv) == f"loaded [] {code}"


@pytest.mark.parametrize(
    "argv", [["report"], ["report", "--json"], ["explain"], ["explain", "--step", "3"]]
)
def test_a_finished_run_is_read_without_tvm(finished, argv):
    """Results, and the device calls of each step, are plain files."""
    command, *options = argv
    found = started("relax_tapml.cli.main", command, finished, *options)
    assert not any(name in found for name in HEAVY)
    assert found.endswith(" 0")

"""A source tree that hides an installed package, whose native library is elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def run_in_tree(tmp_path_factory):
    """A function that runs Python in a source tree that is not installed; returns the process."""
    tree = tmp_path_factory.mktemp("tree")
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "relax_tapml", tree / "relax_tapml", ignore=without)
    shutil.copytree(ROOT / "passes", tree / "passes", ignore=without)
    # With all that is installed but this package, whose finder an editable install has put first.
    places = [place for place in sys.path if place]
    start = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if isinstance(f, type)]; "
        f"sys.path[:] = [{str(tree)!r}, *{places!r}]; "
    )

    def run(code):
        return subprocess.run(
            [sys.executable, "-c", start + code],
            cwd=tree,
            env=os.environ,
            capture_output=True,
            text=True,
        ), tree

    return run


@pytest.mark.parametrize(
    "command",
    [
        "from relax_tapml.build import main; sys.exit(main(['minilm', '--out', 'out']))",
        "from relax_tapml.cli.main import main; sys.exit(main(['replay', '.', '--on', 'llvm=']))",
    ],
)
def test_a_command_names_the_library_and_both_ways_out(command, run_in_tree):
    done, tree = run_in_tree(command)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith("error: relax_tapml.passes, which has relax_tapml's native lib")
    assert "in another folder" in done.stderr
    assert f"pip install -e {tree}" in done.stderr


def test_python_is_told_the_same(run_in_tree):
    """As an error of an import, which it is."""
    code = (
        "import relax_tapml\n"
        "try:\n    relax_tapml.bring_up\n"
        "except ImportError as error:\n    print(type(error).__name__, error.name, error)"
    )
    done, _ = run_in_tree("\n" + code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("InstallationError relax_tapml.passes ")
    assert "pip install -e" in done.stdout

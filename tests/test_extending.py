"""docs/extending.md and howto/own_tolerance.md work: each part is one file and a registry line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import relax_tapml.passes

ROOT = Path(__file__).resolve().parent.parent
PAGE = "".join(
    (ROOT / "docs" / name).read_text(encoding="utf-8")
    for name in ("extending.md", "howto/own_tolerance.md")
)
PARTS = {"metrics", "tolerances", "strategies", "load", "platforms"}
LIBRARY = "librelax_tapml.so"

COMMAND = ("-c", "import sys; from relax_tapml.cli.main import main; sys.exit(main(sys.argv[1:]))")

Run = Callable[..., subprocess.CompletedProcess[str]]


def blocks(language: str) -> dict[str, str]:
    """The code blocks of a language, by the path in their first line."""
    found = re.findall(rf"^```{language}\n# (\S+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return dict(found)


def apply(diff: str, text: str) -> str:
    """Add an import above the package's others, and each other line below the one before it."""
    before = ""
    for line in diff.splitlines():
        if line.startswith("+from "):
            at = text.index("from relax_tapml.")
            text = f"{text[:at]}{line[1:]}\n{text[at:]}"
        elif line.startswith("+"):
            assert text.count(f"{before}\n") == 1
            text = text.replace(f"{before}\n", f"{before}\n{line[1:]}\n")
        else:
            before = line[1:]
    return text


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package to which all is done that the page says."""
    tree = tmp_path_factory.mktemp("tree")
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "relax_tapml", tree / "relax_tapml", ignore=without)
    passes = tree / "relax_tapml" / "passes"
    shutil.copytree(ROOT / "passes", passes, ignore=without)
    (library,) = (
        Path(folder) / LIBRARY
        for folder in relax_tapml.passes.__path__
        if (Path(folder) / LIBRARY).exists()
    )
    shutil.copy(library, passes)
    # Not the finder of an editable install, which would find the package where it was installed,
    # and not torch, which nothing here needs.
    (tree / "sitecustomize.py").write_text(
        "import sys\nsys.meta_path[:] = [f for f in sys.meta_path if isinstance(f, type)]\n"
        "sys.modules['torch'] = None\n"
    )
    for name, text in blocks("python").items():
        assert not (tree / name).exists()
        (tree / name).write_text(text, encoding="utf-8")
    for name, diff in blocks("diff").items():
        path = tree / name
        path.write_text(apply(diff, path.read_text(encoding="utf-8")), encoding="utf-8")
    return tree


@pytest.fixture(scope="module")
def run(tree: Path) -> Run:
    """Run a command with the extended package; it must exit with ``code``."""

    def run(*command: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def out(tree: Path, run: Run) -> Path:
    """The folder of a run with all of it: model, target, strategy."""
    (command,) = re.findall(r"^python (-m relax_tapml\.build .*)$", PAGE, re.MULTILINE)
    done = run(*command.split(), "--session", "inline")
    (tree / "out" / "stdout").write_text(done.stdout)
    return tree / "out"


def test_each_is_one_file_and_one_line() -> None:
    """Of a registry and its import there is a line each; nothing else of the package changes."""
    files = [Path(name) for name in blocks("python") if name.startswith("relax_tapml/")]
    registries = {Path(name): diff for name, diff in blocks("diff").items()}
    assert {file.parent.name for file in files} == PARTS
    assert len(files) == len(registries) == len(PARTS)
    for file in files:
        added = [x for x in registries[file.parent / "registry.py"].splitlines() if x[0] == "+"]
        assert len(added) == 2
        assert f".{file.stem} import " in added[0]


def test_the_command_line_offers_them(run: Run) -> None:
    """Its help is made of the registries, without TVM."""
    text = " ".join(run("-m", "relax_tapml.build", "--help").stdout.split())
    assert "chain:SIZE, two products of SIZE x SIZE" in text
    assert "backward: move one after another, the last first" in text
    run("-c", "import relax_tapml.build, sys; assert 'tvm' not in sys.modules")


def test_a_frontend_refuses_what_it_cannot_make(run: Run) -> None:
    """A wrong name is an error of usage."""
    done = run("-m", "relax_tapml.build", "chain:x", code=2)
    assert "expected chain:SIZE" in done.stderr


def test_a_strategy_moves_its_way(out: Path) -> None:
    """The last operator first."""
    result = json.loads((out / "result.json").read_text())
    assert (result["verdict"], result["model"]["name"]) == ("pass", "chain8")
    assert [step["moved"] for step in result["steps"]] == [[], ["softmax"], ["matmul"]]


def test_a_metric_is_stored_and_printed(out: Path) -> None:
    """In the result, in the terminal, and on the page."""
    result = json.loads((out / "result.json").read_text())
    assert [unit["metrics"]["wrong_signs"] for unit in result["units"]] == [0, 0]
    assert "wrong_signs 0" in (out / "stdout").read_text()
    assert "wrong_signs 0" in (out / "report.html").read_text()


def test_a_platform_is_the_targets(out: Path, run: Run) -> None:
    """Its target is known, and so is what it needs."""
    assert json.loads((out / "result.json").read_text())["target"] == "board"
    (found,) = json.loads(run(*COMMAND, "doctor", "board", "--json").stdout)["targets"]
    assert (found["name"], found["state"]) == ("board", "ready")


def test_a_tolerance_is_stored_judged_by_and_reproduced(out: Path, run: Run) -> None:
    """A suite holds it, a replay judges by it, and a script has its bounds."""
    run("give_tolerance.py", out / "tests", "softmax")
    cases = json.loads((out / "tests" / "manifest.json").read_text())["units"]["softmax"]["cases"]
    stored = [output["tolerance"] for case in cases for output in case["outputs"]]
    assert {(item["kind"], item["numbers"]["share"]) for item in stored} == {("share", 0.01)}
    there = ("--target", "board", "--session", "inline")
    replayed = run(*COMMAND, "replay", out / "tests", *there, "--json")
    (unit,) = (u for u in json.loads(replayed.stdout)["units"] if u["name"] == "softmax")
    assert (unit["verdict"], unit["tolerance_origin"]) == ("pass", "1 % of the largest value")
    run(*COMMAND, "reproduce", out / "tests", "softmax", "--output", out / "script")
    (script,) = (out / "script").glob("*.py")
    assert "elements('bound0'), '1 % of the largest value'" in script.read_text().replace('"', "'")
    assert "output 0 agrees" in run(script).stdout

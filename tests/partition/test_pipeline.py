"""A pass named as MODULE:ATTR."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import tvm

from relax_tapml.errors import UsageError
from relax_tapml.partition.pipeline import load_pipeline

SOURCE = """
import tvm

@tvm.transform.module_pass(opt_level=0, name="Mine")
def mine(module, _ctx):
    return module

class Passes:
    inner = mine

def make():
    return mine

def takes_arguments(x):
    return mine

def returns_text():
    return "text"

text = "text"
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder with a module of pipelines, which is the current one."""
    (tmp_path / "my_test_pipelines.py").write_text(SOURCE)
    (tmp_path / "my_broken_pipelines.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_test_pipelines", raising=False)


@pytest.mark.parametrize("attribute", ["mine", "make", "Passes.inner"])
def test_a_pass_is_found(attribute):
    """It may be a pass, a function that returns one, and inside of something."""
    found = load_pipeline(f"my_test_pipelines:{attribute}")
    assert isinstance(found, tvm.transform.Pass)
    assert found.info.name == "Mine"


def test_a_pass_or_none_is_returned_as_it_is():
    """Callers from Python have the pass itself."""
    step = tvm.transform.Sequential([])
    assert load_pipeline(step) is step
    assert load_pipeline(None) is None


@pytest.mark.parametrize(
    ("spec", "pattern"),
    [
        *((s, "MODULE:ATTR") for s in ("my_test_pipelines", "my_test_pipelines:", ":mine", "")),
        ("no_such_module:p", "No module named 'no_such_module'.* MODULE .* ATTR"),
        ("my_test_pipelines:missing", "no attribute 'missing'.* MODULE .* ATTR"),
        ("my_broken_pipelines:p", "no licence.* MODULE .* ATTR"),
        ("my_test_pipelines:takes_arguments", r"TypeError: takes_arguments\(\) .*'x'.* ATTR"),
        ("my_test_pipelines:text", r"tvm\.transform\.Pass.* got str"),
        ("my_test_pipelines:returns_text", r"tvm\.transform\.Pass.* got str"),
    ],
)
def test_anything_else_is_wrong_usage(spec, pattern):
    """The message names the pipeline, what failed and what is expected."""
    with pytest.raises(UsageError, match=f"^pipeline {re.escape(repr(spec))}.*{pattern}"):
        load_pipeline(spec)


def test_a_path_names_a_file_or_a_folder(tmp_path):
    """Each path is a module of its own, also where names are equal."""
    folder = tmp_path / "repairs"
    folder.mkdir()
    (folder / "__init__.py").write_text(SOURCE.replace("Mine", "InFolder"))
    file = tmp_path / "other.py"
    file.write_text(SOURCE.replace("Mine", "InFile"))
    assert load_pipeline(f"{folder}:mine").info.name == "InFolder"
    assert load_pipeline(f"{file}:Passes.inner").info.name == "InFile"
    with pytest.raises(UsageError, match="no_such"):
        load_pipeline(f"{tmp_path / 'no_such.py'}:mine")


def test_several_are_applied_in_order(tmp_path):
    both = "".join(
        f"import tvm\n@tvm.transform.module_pass(opt_level=0)\ndef {name}(module, _ctx):\n"
        f"    seen.append({name!r})\n    return module\n"
        for name in ("first", "second")
    )
    file = tmp_path / "order.py"
    file.write_text(f"seen = []\n{both}")
    found = load_pipeline(f"{file}:second, {file}:first")
    found(tvm.IRModule({}))
    module = next(m for m in sys.modules.values() if getattr(m, "__file__", None) == str(file))
    assert module.seen == ["second", "first"]

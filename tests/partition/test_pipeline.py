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
    ("spec", "message"),
    [
        *(
            (spec, f"pipeline '{spec}': expected MODULE:ATTR, such as my_kernels:pipeline")
            for spec in ("my_test_pipelines", "my_test_pipelines:", ":mine", "")
        ),
        (
            "no_such_module:p",
            "pipeline 'no_such_module:p' cannot be imported: No module named 'no_such_module'. "
            "MODULE must be importable from FOLDER and have ATTR",
        ),
        (
            "my_test_pipelines:missing",
            "pipeline 'my_test_pipelines:missing' cannot be imported: module 'my_test_pipelines' "
            "has no attribute 'missing'. MODULE must be importable from FOLDER and have ATTR",
        ),
        (
            "my_broken_pipelines:p",
            "pipeline 'my_broken_pipelines:p' cannot be imported: no licence. MODULE must be "
            "importable from FOLDER and have ATTR",
        ),
        (
            "my_test_pipelines:takes_arguments",
            "pipeline 'my_test_pipelines:takes_arguments' raised TypeError: takes_arguments() "
            "missing 1 required positional argument: 'x'. ATTR must be a tvm.transform.Pass or a "
            "function that takes nothing and returns one",
        ),
        *(
            (
                f"my_test_pipelines:{attribute}",
                f"pipeline 'my_test_pipelines:{attribute}': expected a tvm.transform.Pass or a "
                "function that returns one, got str",
            )
            for attribute in ("text", "returns_text")
        ),
    ],
    ids=lambda value: value if ":" in value[:30] and " " not in value[:20] else "",
)
def test_anything_else_is_wrong_usage(spec, message):
    """The message says what failed and what is expected."""
    expected = re.escape(message.replace("FOLDER", str(Path.cwd())))
    with pytest.raises(UsageError, match=f"^{expected}$"):
        load_pipeline(spec)

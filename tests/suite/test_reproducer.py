"""A case as a script that needs only TVM and NumPy, run in a fresh process elsewhere."""

import json
import re
import runpy
import subprocess
import sys
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax
from tvm.script import tirx as T  # noqa: N812

from relax_tapml._compat import IS_TVM_026
from relax_tapml.compare.tolerances.stored import StoredTolerance
from relax_tapml.errors import UsageError
from relax_tapml.passes.submodule import submodule
from relax_tapml.suite._script_text import script_text
from relax_tapml.suite.open_suite import Suite, open_suite
from relax_tapml.suite.reproducer import reproducer, write_reproducer

OPEN_EXTENTS_AS_TEXT = pytest.mark.skipif(
    IS_TVM_026, reason="TVM 0.26 reads an open extent that it printed, int64, as int32"
)

# Nothing of the package, and nothing that reads safetensors, may be imported.
ALONE = """
import runpy, sys
for name in ("relax_tapml", "safetensors", "torch", "pytest"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _run(script, *options):
    return subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(script), *options],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def _written(suite, unit, folder, case=0, **changes):
    opened = open_suite(suite)
    chosen = replace(opened.manifest.units[unit].cases[case], **changes)
    return write_reproducer(reproducer(opened, unit, chosen), folder)


@pytest.mark.parametrize("unit", ["add_and_subtract", "cumsum", "double_inplace"])
def test_it_passes_where_it_was_recorded(suite, tmp_path, unit):
    """A PrimFunc with two outputs, a Relax function, a kernel that writes to its input."""
    done = _run(_written(suite, unit, tmp_path / "report"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"TVM {tvm.__version__}" in done.stdout
    assert "output 0 agrees" in done.stdout
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        f"{unit}.py",
        f"{unit}.safetensors",
    ]


@OPEN_EXTENTS_AS_TEXT
def test_an_edited_operator_fails_with_the_first_mismatch(suite, tmp_path):
    """What is edited is what runs."""
    script = _written(suite, "increment", tmp_path)
    text = script.read_text()
    assert text.count("+ T.float32(1.0)") == 1
    script.write_text(text.replace("+ T.float32(1.0)", "+ T.float32(1.5)"))
    done = _run(script, "--target", "llvm")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"output 0 differs in (\d+) of \1 values", done.stdout)
    found = r"first at \[0, 0\]: expected \S+, got \S+, which differs by 0.5\d*; allowed \S+: .+"
    assert re.search(found, done.stdout)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("nudge", [1, 4], ids=["within", "beyond"])
def test_bounds_of_elements_go_with_it(suite, tmp_path, monkeypatch, nudge):
    """The bound of each value counts; where it is NaN, nothing does."""
    opened = open_suite(suite)
    case = opened.manifest.units["increment"].cases[0]
    oracle = opened.tensor(case.outputs[0].tensor)
    bound = np.full(oracle.shape, 2**-10, ml_dtypes.float8_e8m0fnu)
    bound[0, 0] = np.nan
    wrong = oracle + nudge * np.float32(2**-11)
    wrong[0, 0] = np.inf
    tensors = {"wrong": wrong, "bound": bound}
    read = Suite.tensor
    monkeypatch.setattr(
        Suite, "tensor", lambda self, name: tensors[name] if name in tensors else read(self, name)
    )
    tolerance = StoredTolerance(kind="elements", origin="measured", bound="bound")
    output = replace(case.outputs[0], tensor="wrong", tolerance=tolerance)
    made = reproducer(opened, "increment", replace(case, outputs=(output,)))
    done = _run(write_reproducer(made, tmp_path))
    assert done.returncode == (nudge > 1), done.stdout + done.stderr
    assert ("first at [0, 1]" in done.stdout) == (nudge > 1)


def _functions(script):
    """The functions of an emitted script, without running its operator."""
    space = {"__file__": str(script), "__name__": "emitted"}
    text = script.read_text()
    start, end = text.index("# ---- the operator"), text.index("# ---- what is compared")
    exec(compile(text[:start] + text[end:], str(script), "exec"), space)
    return space


@pytest.mark.parametrize(
    ("actual", "is_wrong"),
    [
        ([0, 1, 2], []),
        ([1, 0, 2], []),
        ([0, 2, 1], [1, 2]),
        ([0, 0, 2], [1]),
        ([0, 3, 2], [1]),
        ([0, -1, 2], [1]),
    ],
)
def test_indices_may_choose_equal_values(suite, tmp_path, actual, is_wrong):
    tolerance = StoredTolerance(kind="index", origin="ties", input=0, axis=0)
    opened = open_suite(suite)
    case = opened.manifest.units["increment"].cases[0]
    output = replace(case.outputs[0], tolerance=tolerance)
    made = reproducer(opened, "increment", replace(case, outputs=(output,)))
    space = _functions(write_reproducer(made, tmp_path))
    space["TENSORS"]["values"] = np.array([5.0, 5.0, 7.0])
    judge = space["same_choice"]("values", 0)
    wrong, _, _ = judge(np.array([0, 1, 2]), np.array(actual))
    assert list(np.flatnonzero(wrong)) == is_wrong


@pytest.mark.parametrize(
    ("expected", "actual", "is_wrong"),
    [
        (np.nan, np.nan, False),
        (np.nan, 1.0, True),
        (1.0, np.nan, True),
        (np.inf, np.inf, False),
        (np.inf, -np.inf, True),
        (np.inf, 3e38, True),
        (1.0, 1.05, False),
        (1.0, 1.25, True),
        (0.0, -0.0, False),
    ],
)
def test_values_that_are_not_finite_must_match(suite, tmp_path, expected, actual, is_wrong):
    space = _functions(_written(suite, "increment", tmp_path))
    wrong, _, _ = space["rule"](0.1, 0.0)(np.float32([expected]), np.float32([actual]))
    assert list(wrong) == [is_wrong]


def test_every_dtype_of_a_suite_can_be_read(suite, tmp_path):
    arrays = {
        name: np.arange(6).astype(dtype).reshape(2, 3)
        for name, dtype in {
            "a": np.bool_,
            "b": np.int64,
            "c": np.uint8,
            "d": np.float16,
            "e": ml_dtypes.bfloat16,
            "f": ml_dtypes.float8_e4m3fn,
            "g": ml_dtypes.float8_e5m2,
            "h": ml_dtypes.float8_e8m0fnu,
        }.items()
    }
    from relax_tapml.tensor_file import dump_tensors

    space = _functions(_written(suite, "increment", tmp_path))
    (tmp_path / "more.safetensors").write_bytes(dump_tensors(arrays))
    read = space["read_safetensors"](tmp_path / "more.safetensors")
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        assert read[name].tobytes() == array.tobytes()


@T.prim_func(private=True, s_tir=True)
def constants(X: T.Buffer((2,), "float32"), Y: T.Buffer((2,), "float32")):
    for i in range(2):
        with T.sblock("Y"):
            v = T.axis.spatial(2, i)
            Y[v] = (
                T.max(X[v], T.float32("-inf"))
                + T.float32("inf") * T.float32("nan")
                + T.float32(1e-45)
                + T.float32(0.1)
            )


def test_every_constant_survives_as_text():
    printed = script_text(tvm.IRModule({"constants": constants}))
    assert printed.inexact == ""
    assert "# from" not in printed.text


@OPEN_EXTENTS_AS_TEXT
def test_every_unit_of_the_suite_is_exact_as_text(suite, tmp_path):
    opened = open_suite(suite)
    for unit, entry in opened.manifest.units.items():
        module = submodule(opened.module(unit), [entry.cases[0].function])
        printed = script_text(module)
        assert printed.inexact == "", unit
        file = tmp_path / "text.py"
        file.write_text(f"from __future__ import annotations\n{printed.text}")
        assert tvm_ffi.structural_equal(module, runpy.run_path(str(file))["Module"])


def _with_constant():
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    with builder.function("main", [x]):
        y = builder.emit(relax.op.add(x, relax.const(np.float32([1, 2]))))
        builder.emit_func_output(relax.Tuple([y]))
    return builder.get()


def _with_code_as_name():
    module = _with_constant()
    function = module["main"].with_attr("global_symbol", "f(x):\n import os\n#")
    return tvm.IRModule({"f(x):\n import os\n#": function})


@pytest.mark.parametrize(
    ("module", "reason"),
    [(_with_constant, "it holds a tensor constant"), (_with_code_as_name, "is no name in Python")],
)
def test_what_text_cannot_hold_is_reported(module, reason):
    assert reason in script_text(module()).inexact


def test_a_module_that_text_cannot_hold_is_json(suite, tmp_path, monkeypatch):
    """The script states it, has the text as a comment, and runs."""
    opened = open_suite(suite)
    module = _with_constant()
    x = np.float32([1, 2])
    monkeypatch.setattr(Suite, "tensor", lambda _self, name: {"x": x, "y": x + x}[name])
    monkeypatch.setattr(Suite, "module", lambda _self, _unit: module)
    case = opened.manifest.units["increment"].cases[0]
    case = replace(
        case,
        function="main",
        inputs=(replace(case.inputs[0], tensor="x"),),
        outputs=(
            replace(
                case.outputs[0],
                tensor="y",
                tolerance=StoredTolerance(kind="equal", origin="the sum of equals is exact"),
            ),
        ),
    )
    made = reproducer(opened, "increment", case)
    assert made.inexact == "it holds a tensor constant"
    script = write_reproducer(made, tmp_path)
    assert "TVMScript cannot hold this module exactly" in script.read_text()
    done = _run(script)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_in_a_suite_becomes_code_of_the_script(suite, tmp_path):
    """Names, sites and origins may hold anything, placeholders of the template included."""
    hostile = 'x\n"""\nraise SystemExit(9)\n<<MODULE>>\r\u2028#'
    opened = open_suite(suite)
    entry = opened.manifest.units["increment"]
    case = entry.cases[0]
    tolerance = replace(case.outputs[0].tolerance, origin=hostile)
    case = replace(case, site=hostile, outputs=(replace(case.outputs[0], tolerance=tolerance),))
    opened.manifest.units[hostile] = replace(entry, cases=(case,))
    made = reproducer(opened, hostile, case)
    assert re.fullmatch(r"\w+", made.stem)
    assert _run(write_reproducer(made, tmp_path)).returncode == 0


def test_files_that_are_there_are_kept(suite, tmp_path):
    made = reproducer(open_suite(suite), "add", open_suite(suite).manifest.units["add"].cases[0])
    (tmp_path / "add.py").write_text("mine")
    with pytest.raises(UsageError, match=r"add.py exists.*--force"):
        write_reproducer(made, tmp_path)
    assert (tmp_path / "add.py").read_text() == "mine"
    assert not (tmp_path / "add.safetensors").exists()
    write_reproducer(made, tmp_path, replace=True)
    assert (tmp_path / "add.py").read_text() == made.script


def test_the_script_names_where_it_comes_from(suite, tmp_path):
    text = _written(suite, "increment", tmp_path).read_text()
    manifest = json.loads((suite / "manifest.json").read_text())
    assert "# increment, recorded at main/000/increment" in text
    assert f"apache-tvm {manifest['versions']['apache-tvm']}" in text

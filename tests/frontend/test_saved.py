import contextlib
import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest
import tiny_model
import tvm
from damaged_json import damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused
from tvm import relax

from relax_tapml._compat import Constant, constant_tensor
from relax_tapml.errors import StoreError, UsageError
from relax_tapml.frontend.load.load_model import load_model
from relax_tapml.frontend.model import Meaning, Model, Sample
from relax_tapml.frontend.saved import load_ir, load_saved, save_model
from relax_tapml.tensor_file import dump_tensors


@pytest.fixture
def saved(affine, tmp_path):
    save_model(affine, tmp_path / "affine")
    return tmp_path / "affine"


def test_everything_comes_back(affine, saved, run_on_llvm):
    back = load_saved(saved)
    tvm.ir.assert_structural_equal(back.module, affine.module)
    assert (back.name, back.entry, back.reference) == ("affine", "main", None)
    assert [sample.name for sample in back.samples] == ["one", "two"]
    for ours, theirs in zip(back.samples, affine.samples, strict=True):
        for array, expected in zip(ours.arrays, theirs.arrays, strict=True):
            np.testing.assert_array_equal(array, expected, strict=True)
    for results, expected in zip(run_on_llvm(back), run_on_llvm(affine), strict=True):
        for array, other in zip(results, expected, strict=True):
            np.testing.assert_array_equal(array, other, strict=True)


def test_the_folder_holds_the_files_of_the_manifest(saved):
    files = sorted(str(file.relative_to(saved)) for file in saved.rglob("*") if file.is_file())
    manifest = json.loads((saved / "manifest.json").read_text())
    assert files == sorted([*manifest["sha256"], "manifest.json"])
    assert manifest["schema"] == 1
    assert set(manifest["versions"]) == {"relax-tapml", "apache-tvm", "apache-tvm-ffi"}


def test_constants_and_low_precision_survive(tmp_path):
    bits = np.array([1.5, -0.0, float("inf")]).astype(ml_dtypes.bfloat16)
    x = relax.Var("x", relax.TensorType((3,), "bfloat16"))
    z = relax.Var("z", relax.TensorType((3,), "bfloat16"))
    a = relax.Var("a", relax.TensorType((), "float8_e4m3fn"))
    builder = relax.BlockBuilder()
    with builder.function("run", [x, z, a]):
        constant = relax.const(tvm.runtime.tensor(bits))
        builder.emit_func_output(builder.emit(relax.op.add(x, constant)))
    model = Model(
        name="m",
        module=builder.get(),
        # Not in alphabetical order: the function's order is kept.
        params={"z": bits, "a": np.array(2, ml_dtypes.float8_e4m3fn)},
        samples=(Sample(name="s", arrays=(bits,)),),
        entry="run",
    )
    save_model(model, tmp_path / "m")
    back = load_saved(tmp_path / "m")
    assert list(back.params) == ["z", "a"]
    for name, array in model.params.items():
        assert back.params[name].dtype == array.dtype
        assert back.params[name].tobytes() == array.tobytes()
    tensors = []

    def collect(node):
        if isinstance(node, Constant):
            tensors.append(constant_tensor(node).numpy())

    relax.analysis.post_order_visit(back.module["run"], collect)
    assert [tensor.tobytes() for tensor in tensors] == [bits.tobytes()]


def test_an_empty_folder_is_filled(affine, tmp_path):
    save_model(affine, tmp_path)
    assert load_saved(tmp_path).name == "affine"


def test_a_folder_with_something_in_it_is_left_alone(affine, tmp_path):
    (tmp_path / "precious").write_text("data")
    with refused(UsageError, tmp_path, "not an empty folder"):
        save_model(affine, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["precious"]


def test_a_save_that_fails_leaves_nothing(affine, tmp_path, monkeypatch):
    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr("relax_tapml.frontend.saved.write_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(affine, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_does_not_fit_is_not_saved(affine, tmp_path):
    with refused(UsageError, "'affine'", "--inputs"):
        save_model(dataclasses.replace(affine, samples=()), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["module.json", "params.safetensors", "inputs/001.safetensors"])
def test_a_changed_file_is_named(saved, name):
    file = saved / name
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with refused(StoreError, file, "SHA-256", "got", "again"):
        load_saved(saved)


def test_a_missing_file_is_named(saved):
    (saved / "params.safetensors").unlink()
    with refused(StoreError, f"{saved}/params.safetensors", "No such file", "again"):
        load_saved(saved)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"schema": 2, "versions": {"relax-tapml": "9.0"}},
            ("schema 2", "1", "{'relax-tapml': '9.0'}"),
        ),
        ({"params": ["scale", "shift"]}, ("'shift'", "again")),
        ("{}", ("manifest", "again")),
        ("[]", ("manifest", "again")),
        ('{"schema', ("Unterminated", "again")),
    ],
    ids=["schema", "params", "empty", "list", "cut"],
)
def test_another_manifest_is_refused(saved, changes, named):
    file = saved / "manifest.json"
    if isinstance(changes, dict):
        changes = json.dumps(json.loads(file.read_text()) | changes)
    file.write_text(changes)
    with refused(StoreError, file, *named):
        load_saved(saved)


@settings(
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_other_value_in_the_manifest_is_refused_or_harmless(saved, data):
    """It never ends in another error than a StoreError."""
    original = (saved / "manifest.json").read_bytes()
    (saved / "manifest.json").write_text(json.dumps(data.draw(damaged(json.loads(original)))))
    try:
        with contextlib.suppress(StoreError):
            load_saved(saved)
    finally:
        (saved / "manifest.json").write_bytes(original)


def test_a_file_outside_the_folder_is_not_read(saved, tmp_path):
    (saved / "params.safetensors").rename(tmp_path / "elsewhere")
    (saved / "params.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"names 'params\.safetensors', which is outside"):
        load_saved(saved)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with refused(StoreError, tmp_path, "manifest.json", "save_model"):
        load_saved(tmp_path)


def test_a_relax_module_takes_parameters_from_the_file_next_to_it(affine, tmp_path):
    (tmp_path / "m.json").write_text(tvm.ir.save_json(affine.module))
    (tmp_path / "m.safetensors").write_bytes(dump_tensors(affine.params))
    model = load_ir(tmp_path / "m.json")
    tvm.ir.assert_structural_equal(model.module, affine.module)
    assert (model.name, list(model.params), model.samples) == ("m", ["scale"], ())


def test_parameters_next_to_a_relax_module_may_be_missing_but_not_others(affine, tmp_path):
    (tmp_path / "m.json").write_text(tvm.ir.save_json(affine.module))
    assert load_ir(tmp_path / "m.json").params == {}
    (tmp_path / "m.safetensors").write_bytes(dump_tensors({"weight": np.ones(4, "float32")}))
    with refused(UsageError, "'main'", "missing: scale", "weight"):
        load_ir(tmp_path / "m.json")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"nodes": [', ("Expecting value", "tvm.ir.save_json", tvm.__version__)),
        ("{}", ("tvm.ir.save_json", tvm.__version__)),
        ('{"root_index": 9, "nodes": [], "metadata": {}}', ("tvm.ir.save_json", tvm.__version__)),
        (tvm.ir.save_json(relax.Var("x")), ("Var", "IRModule", "tvm.ir.save_json")),
    ],
    ids=["cut", "empty", "index", "another object"],
)
def test_json_that_is_no_module_is_refused(tmp_path, content, named):
    file = tmp_path / "m.json"
    file.write_text(content)
    with refused(StoreError, file, *named):
        load_ir(file)


def test_a_meaning_is_kept(tmp_path):
    model = dataclasses.replace(tiny_model.model(), meaning=Meaning.CLASSES)
    save_model(model, tmp_path / "model")
    assert load_saved(tmp_path / "model").meaning is Meaning.CLASSES


def test_a_model_with_a_drive_cannot_be_saved_or_given_inputs(tmp_path, monkeypatch):
    """What it does with a sample is Python code."""
    model = dataclasses.replace(tiny_model.model(), drive=lambda functions, sample: [])
    with refused(UsageError, "drive", "MODULE:FUNCTION"):
        save_model(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    monkeypatch.setattr(tiny_model, "driven", lambda: model, raising=False)
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 2), "float32"))
    with refused(UsageError, "Model.drive", "--inputs"):
        load_model("tiny_model:driven", inputs=[tmp_path / "x.npz"])

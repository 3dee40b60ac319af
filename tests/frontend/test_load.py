import dataclasses

import numpy as np
import pytest
import tvm
from refusals import refused

from relax_tapml.errors import UsageError
from relax_tapml.frontend.load.load_model import load_model
from relax_tapml.frontend.load.registry import FRONTENDS
from relax_tapml.frontend.saved import save_model
from relax_tapml.tensor_file import dump_tensors

X = np.arange(8, dtype="float32").reshape(2, 4)
ACCEPTED = [frontend.summary for frontend in FRONTENDS]


@pytest.fixture
def ir_file(affine, tmp_path):
    (tmp_path / "affine.json").write_text(tvm.ir.save_json(affine.module))
    (tmp_path / "affine.safetensors").write_bytes(dump_tensors(affine.params))
    return tmp_path / "affine.json"


def test_a_saved_folder_brings_its_samples(affine, tmp_path):
    save_model(affine, tmp_path / "affine")
    model = load_model(str(tmp_path / "affine"))
    assert [sample.name for sample in model.samples] == ["one", "two"]


def test_given_inputs_replace_a_models_own(affine, tmp_path):
    save_model(affine, tmp_path / "affine")
    np.savez(tmp_path / "mine.npz", x=X, y=np.arange(4))
    model = load_model(str(tmp_path / "affine"), inputs=[tmp_path / "mine.npz"])
    assert [sample.name for sample in model.samples] == ["mine.npz"]


def test_a_relax_module_takes_given_inputs(ir_file, tmp_path, run_on_llvm):
    np.savez(tmp_path / "mine.npz", x=X, y=np.arange(4))
    model = load_model(str(ir_file), inputs=[tmp_path / "mine.npz"])
    scaled, shifted = run_on_llvm(model)[0]
    np.testing.assert_array_equal(scaled, X * [1, 2, 3, 4])
    np.testing.assert_array_equal(shifted, np.arange(4) + 3)


def test_given_inputs_are_checked(ir_file, tmp_path):
    np.savez(tmp_path / "mine.npz", x=X, y=np.arange(5))
    with refused(UsageError, "mine.npz", "'y'", "[n * 2], got [5] (n = 2)"):
        load_model(str(ir_file), inputs=[tmp_path / "mine.npz"])


def test_a_callable_is_called(tmp_path, monkeypatch):
    (tmp_path / "load_test_zoo.py").write_text(
        "import relax_tapml.frontend.saved as saved, pathlib\n"
        "def affine(): return saved.load_saved(pathlib.Path('affine'))\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match="affine"):
        load_model("load_test_zoo:affine")


def test_a_built_in_example_gets_the_texts(affine, monkeypatch):
    seen = []

    def example(texts):
        seen.append(list(texts))
        return dataclasses.replace(affine, name="built-in")

    monkeypatch.setattr("relax_tapml.frontend._minilm.minilm", example)
    assert load_model("minilm", texts=["a", "b"]).name == "built-in"
    assert seen == [["a", "b"]]


def test_files_for_a_text_model_are_refused(tmp_path):
    with refused(UsageError, "minilm", "--text", "--inputs"):
        load_model("minilm", inputs=[tmp_path])


def test_texts_for_another_model_are_refused(ir_file):
    with refused(UsageError, ir_file, "--inputs", "--text", "minilm", "mlc:CONFIG"):
        load_model(str(ir_file), texts=["a"])


@pytest.mark.parametrize(
    ("spec", "hint"), [("MiniLM2", "Did you mean minilm?"), ("resnet", ""), ("", "")]
)
def test_an_unknown_name_lists_what_is_accepted(spec, hint):
    with refused(UsageError, f"'{spec}'", hint, *ACCEPTED):
        load_model(spec)


@pytest.mark.parametrize("suffix", [".json", ".pt2"])
def test_a_missing_file_gets_close_matches(tmp_path, suffix):
    (tmp_path / f"model{suffix}").write_text("")
    with refused(UsageError, f"{tmp_path}/modle{suffix}", f"Did you mean model{suffix}?"):
        load_model(f"{tmp_path}/modle{suffix}")


def test_a_model_of_ones_own_may_take_texts(tmp_path, monkeypatch):
    (tmp_path / "load_test_texts.py").write_text(
        """
import numpy as np
from relax_tapml import Model, Sample
from relax_tapml.frontend.load.load_model import load_model

def tokenized(texts):
    return [Sample(name=t, arrays=(np.full(4, len(t), "float32"),)) for t in texts]

def load():
    from load_test_texts_module import Scale
    return Model(name="m", module=Scale, params={}, samples=(), from_texts=tokenized)
"""
    )
    (tmp_path / "load_test_texts_module.py").write_text(
        """
from tvm.script import ir as I
from tvm.script import relax as R

@I.ir_module
class Scale:
    @R.function
    def main(x: R.Tensor((4,), "float32")):
        return R.add(x, x)
"""
    )
    monkeypatch.chdir(tmp_path)
    model = load_model("load_test_texts:load", texts=["a", "bcd"])
    assert [(s.name, s.arrays[0][0]) for s in model.samples] == [("a", 1), ("bcd", 3)]


def test_files_are_looked_for_before_the_model_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "load_test_slow.py").write_text("def load(): raise AssertionError('made')")
    with refused(UsageError, "nothing.npz", "no such file"):
        load_model("load_test_slow:load", inputs=[tmp_path / "nothing.npz"])

import numpy as np
import pytest
from refusals import refused

from relax_tapml.errors import SourceError, UsageError
from relax_tapml.frontend._callable import load_callable
from relax_tapml.frontend.load.load_model import load_model

ZOO = """
import numpy as np
import tvm
from tvm.script import ir as I
from tvm.script import relax as R
from relax_tapml.errors import SourceError
from relax_tapml.frontend.model import Model

@I.ir_module
class Scale:
    @R.function
    def main(x: R.Tensor((4,), "float32"), w: R.Tensor((4,), "float32")):
        return R.multiply(x, w)

W = np.arange(4, dtype="float32")

def pair(): return Scale, {"w": W}
def listed(): return Scale, [tvm.runtime.tensor(W)]
def detached(): return Scale, {"main": [tvm.runtime.tensor(W)]}
def model(): return Model(name="mine", module=Scale, params={"w": W}, samples=())
class Family:
    small = staticmethod(pair)
def broken(): raise RuntimeError("no weights")
def told(*values, **named): raise SourceError(repr((values, named)))
def refused(): raise SourceError("not an oracle")
def three(): return Scale, {}, 1
def none(): return None
number = 3
"""


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A module in the current directory, under a name no other test has imported."""
    name = f"zoo_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(ZOO)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.parametrize("attribute", ["pair", "listed", "detached", "Family.small"])
def test_a_module_and_params_make_a_model(zoo, attribute):
    model = load_callable(f"{zoo}:{attribute}")
    assert (model.name, model.entry, model.samples) == (attribute, "main", ())
    assert list(model.params) == ["w"]
    np.testing.assert_array_equal(model.params["w"], np.arange(4, dtype="float32"))


def test_a_model_is_returned_as_it_is(zoo):
    assert load_callable(f"{zoo}:model").name == "mine"


def test_the_import_path_is_left_as_it_was(zoo, tmp_path):
    import sys

    before = list(sys.path)
    load_callable(f"{zoo}:pair")
    assert sys.path == before


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("nowhere.at_all:f", ("no module 'nowhere'", "install")),
        ("ZOO:modle", ("'modle'", "model or Model?")),
        ("ZOO:three", ("(IRModule, dict, int)", "(IRModule, params)")),
        ("ZOO:none", ("NoneType", "(IRModule, params)")),
        ("ZOO:number", ("int", "callable")),
    ],
)
def test_what_makes_no_model_is_refused(zoo, spec, named):
    spec = spec.replace("ZOO", zoo)
    with refused(UsageError, spec, *named):
        load_callable(spec)


@pytest.mark.parametrize(
    ("source", "reason", "line"),
    [
        ("import nowhere_to_be_found\n", "No module named 'nowhere_to_be_found'", 1),
        ("\nx = 1 / 0\n", "ZeroDivisionError: division", 2),
    ],
    ids=["imports_more", "raises"],
)
def test_a_module_that_raises_is_named_with_the_line(tmp_path, monkeypatch, source, reason, line):
    file = tmp_path / f"raises_at_{line}.py"
    file.write_text(source)
    monkeypatch.chdir(tmp_path)
    with refused(UsageError, f"raises_at_{line}:f", reason, f"{file}:{line}"):
        load_callable(f"raises_at_{line}:f")


def test_a_callable_that_raises_is_named_with_the_line(zoo, tmp_path):
    line = ZOO.splitlines().index('def broken(): raise RuntimeError("no weights")') + 1
    file = f"{tmp_path / zoo}.py"
    with refused(UsageError, f"{zoo}:broken", "RuntimeError: no weights", f"{file}:{line}"):
        load_callable(f"{zoo}:broken")


def test_the_packages_own_errors_pass_through(zoo):
    with pytest.raises(SourceError, match=r"^not an oracle$"):
        load_callable(f"{zoo}:refused")


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ("path=w.onnx", ((), {"path": "w.onnx"})),
        ("ckpt.json", (("ckpt.json",), {})),
        ("/tmp/w.pt2,2", (("/tmp/w.pt2", 2), {})),
        ("[1,2],sizes=(3,4)", (([1, 2],), {"sizes": (3, 4)})),
        ("'a,(b'", (("a,(b",), {})),
        ("{[]:1}", (("{[]:1}",), {})),
        ("-" * 5000 + "1", (("-" * 5000 + "1",), {})),
        ("x" * 300, (("x" * 300,), {})),
    ],
    ids=["named file", "file", "path", "brackets", "quotes", "unhashable", "deep", "long"],
)
def test_arguments_may_be_files_and_lists(zoo, arguments, read):
    """A name of a callable is never taken for a file or folder."""
    with pytest.raises(SourceError) as found:
        load_model(f"{zoo}:told:{arguments}")
    assert str(found.value) == repr(read)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("a=1,a=2", ("a is given twice",)),
        ("/a=1,class=1,class=2", ("class is given twice",)),
        ("[1,2", ("told apart", "quotes")),
        ("it's", ("told apart", "quotes")),
        ("1)+f(2", ("told apart", "quotes")),
    ],
)
def test_arguments_that_can_be_read_in_two_ways_are_refused(zoo, arguments, named):
    with refused(UsageError, arguments, *named):
        load_callable(f"{zoo}:told:{arguments}")


@pytest.mark.parametrize("suffix", ["", ".onnx"])
def test_a_path_that_no_file_can_have_is_refused(suffix):
    with pytest.raises(UsageError):
        load_model("x" * 300 + suffix)


TORCH = """
import torch
from torch import nn

class Scaled(nn.Module):
    def __init__(self, width, factor):
        super().__init__()
        self.linear = nn.Linear(width, 2)
        self.factor = factor

    def forward(self, x):
        return self.linear(x) * self.factor

def with_inputs(width=3, factor=2.0): return Scaled(width, factor), (torch.ones(1, width),)
def with_tensor(): return Scaled(3, 1.0), torch.ones(1, 3)
def by_name(): return Scaled(3, 1.0), {"x": torch.ones(1, 3)}
def exported(): return torch.export.export(Scaled(3, 1.0).eval(), (torch.ones(1, 3),))
def alone(): return Scaled(3, 1.0)
def text(word, *, flag): return Scaled(len(word), 1.0 if flag is True else 0.0), torch.ones(1, 4)
def deep():
    return Scaled(3, 1.0)(torch.ones(1, 5))
"""


@pytest.fixture
def torch_zoo(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    name = f"torch_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(TORCH)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.parametrize("attribute", ["with_inputs", "with_tensor", "by_name", "exported"])
def test_a_torch_module_or_program_makes_a_model(torch_zoo, attribute):
    model = load_callable(f"{torch_zoo}:{attribute}")
    (sample,) = model.samples
    assert (model.name, sample.arrays[0].shape) == (attribute, (1, 3))
    assert model.reference(sample)[0].shape == (1, 2)


def test_arguments_follow_behind_a_colon(torch_zoo):
    model = load_callable(f"{torch_zoo}:with_inputs:5,factor=0.5")
    assert model.samples[0].arrays[0].shape == (1, 5)
    assert load_callable(f"{torch_zoo}:text:four,flag=True").samples[0].arrays[0].shape == (1, 4)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ("with_inputs:1,2,3", ("too many", "(width=3, factor=2.0)")),
        ("text", ("missing", "flag")),
        ("alone", ("Scaled", "example inputs")),
        ("deep", ("5", ".py:12")),
    ],
)
def test_torch_calls_that_make_no_model_are_refused(torch_zoo, call, named):
    """Of an error inside of PyTorch the line of the user's own code is shown."""
    with refused(UsageError, call.partition(":")[0], *named):
        load_callable(f"{torch_zoo}:{call}")


def test_a_syntax_error_is_shown_where_it_is(torch_zoo, tmp_path):
    (tmp_path / f"{torch_zoo}.py").write_text("x = 1\ny = (\n")
    with refused(UsageError, f"{torch_zoo}.py:2"):
        load_callable(f"{torch_zoo}:f")

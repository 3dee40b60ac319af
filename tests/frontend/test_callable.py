import numpy as np
import pytest
from refusals import refused

from relax_tapml.errors import SourceError, UsageError
from relax_tapml.frontend._callable import load_callable

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

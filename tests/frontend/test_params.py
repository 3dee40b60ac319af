import numpy as np
import pytest
import tvm
from refusals import refused

from relax_tapml.errors import UsageError
from relax_tapml.frontend._params import named_params, param_count

A, B = np.zeros(2, "float32"), np.ones(3, "int8")


@pytest.mark.parametrize(
    "given",
    [
        {"b": B, "a": A},
        [A, B],
        (tvm.runtime.tensor(A), tvm.runtime.tensor(B)),
        {"main": [tvm.runtime.tensor(A), B], "other": []},
    ],
    ids=["by name", "list", "tvm tensors", "detach_params"],
)
def test_every_form_gives_names_in_the_functions_order(given):
    params = named_params(given, ["a", "b"], "main")
    assert list(params) == ["a", "b"]
    np.testing.assert_array_equal(params["a"], A)
    np.testing.assert_array_equal(params["b"], B)
    assert params["b"].dtype == np.int8
    assert param_count(given, "main") == 2


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([A], ("'main'", "2", "got 1")),
        ({"a": A, "c": B}, ("'main'", "missing: b", ": c.")),
        ({"a": A, "b": 3}, ("'b' of 'main'", "got int")),
    ],
)
def test_parameters_that_do_not_match_are_refused(given, named):
    with refused(UsageError, *named):
        named_params(given, ["a", "b"], "main")

import re

import numpy as np
import pytest
import tvm

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
    ("given", "text"),
    [
        (
            [A],
            "'main' takes 2 model parameters, got 1. Give one for each, in the function's order, "
            "or name them.",
        ),
        (
            {"a": A, "c": B},
            "the parameters given do not match those of 'main': missing: b; not taken by it: c. "
            "Name them as the Relax function's parameters.",
        ),
        (
            {"a": A, "b": 3},
            "parameter 'b' of 'main': expected a tensor or an array, got int.",
        ),
    ],
)
def test_parameters_that_do_not_match_are_refused(given, text):
    with pytest.raises(UsageError, match=f"^{re.escape(text)}$"):
        named_params(given, ["a", "b"], "main")

"""Every result is the same after it was written as JSON and read again."""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import run_of

from relax_tapml import results
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import StoreError
from relax_tapml.results.import_result import ImportResult
from relax_tapml.results.json_codec import (
    NOT_IN_JSON,
    MetricValue,
    Number,
    Value,
    decode,
    encode,
    read_as,
)
from relax_tapml.results.run_result import RunResult
from relax_tapml.results.unit_result import FirstMismatch, UnitOutcome, UnitResult

# Of math.nan itself, which is equal to nothing: a tuple that has it is equal to its copy.
NUMBERS = st.floats(allow_nan=False) | st.just(math.nan)
INTEGERS = st.integers(-(2**63), 2**64 - 1)
COUNTS = st.integers(0, 2**62)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    Number: NUMBERS,
    Value: st.one_of(NUMBERS, INTEGERS, st.booleans()),
    MetricValue: st.one_of(NUMBERS, INTEGERS, st.dictionaries(st.text(max_size=3), COUNTS)),
    bool: st.booleans(),
    int: INTEGERS,
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=5),
    NoneType: st.none(),
}


def result_types() -> list[type]:
    """Return every dataclass of ``relax_tapml.results``."""
    modules = pkgutil.iter_modules(results.__path__, f"{results.__name__}.")
    return [
        value
        for module in modules
        for value in vars(importlib.import_module(module.name)).values()
        if is_dataclass(value) and value.__module__ == module.name
    ]


def strategy_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return values of a type that a field of a result has."""
    if hint in PLAIN:
        return PLAIN[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        number, meta = args
        bounds = {"min_value": meta.ge, "max_value": meta.le}
        return st.integers(**bounds) if number is int else st.floats(**bounds)
    if origin in (Union, UnionType):
        return st.one_of(*map(strategy_of, args))
    if origin is dict:
        return st.dictionaries(*map(strategy_of, args), max_size=2)
    if origin is list:
        return st.lists(strategy_of(args[0]), max_size=2)
    if origin is tuple and args[1:] == (Ellipsis,):
        return st.lists(strategy_of(args[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(strategy_of, args))
    if issubclass(hint, Enum):
        return st.sampled_from(hint)
    hints = get_type_hints(hint, include_extras=True)
    stored = [item.name for item in fields(hint) if item.metadata != NOT_IN_JSON]
    return st.builds(hint, **{name: strategy_of(hints[name]) for name in stored})


@pytest.mark.parametrize("kind", result_types(), ids=lambda kind: kind.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_a_result_is_the_same_after_it_was_written_and_read(kind, data):
    """NaN and infinities included; the text is strict JSON, which has none."""
    result = data.draw(strategy_of(kind))
    text = json.dumps(encode(result), allow_nan=False)
    assert decode(json.loads(text), kind) == result


def test_every_field_of_a_result_is_one_of_its_object():
    """``import_`` is ``import`` there; a number of NumPy is written as one."""
    unit = UnitResult(name="a", verdict=Verdict.PASS, error=np.float32(0.5), sites=np.int64(3))
    document = encode(unit)
    assert list(document) == [item.name for item in fields(UnitResult)]
    assert (type(document["error"]), type(document["sites"])) == (float, int)
    assert "import" in encode(run_of())
    assert decode(encode(run_of(import_=ImportResult())), RunResult).import_ == ImportResult()


@pytest.mark.parametrize(
    ("number", "text"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")]
)
def test_a_number_that_is_not_finite_is_a_string(number, text):
    """In numbers, elements of tensors and metrics."""
    first = FirstMismatch(index=(0,), expected=number, actual=number)
    unit = UnitResult(
        name="a", verdict=Verdict.PASS, error=number, first=first, metrics={"max_abs": number}
    )
    document = encode(unit)
    assert document["error"] == document["metrics"]["max_abs"] == text
    assert document["first"]["expected"] == text
    assert decode(document, UnitResult) == unit


def test_what_an_older_version_left_out_is_the_default():
    """And what this one does not have is left out."""
    document = {"name": "a", "verdict": "pass", "of_another_version": 1}
    assert decode(document, UnitOutcome) == UnitOutcome(name="a", verdict=Verdict.PASS)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"verdict": "fine"}, "verdict"),
        ({"verdict": None}, "verdict"),
        ({"error": "much"}, "error"),
        ({"error": True}, "error"),
        ({"runs": -1}, "runs"),
        ({"runs": 2**70}, "runs"),
        ({"blunt": [0.5]}, "blunt"),
    ],
)
def test_a_value_of_another_type_is_refused_and_its_place_named(change, where):
    """With the file and what to do."""
    document = {"name": "a", "verdict": "pass", **change}
    with pytest.raises(msgspec.ValidationError, match=where):
        decode(document, UnitOutcome)
    with pytest.raises(StoreError, match=rf"x\.json is damaged: .*{where}.*\. Run again"):
        read_as(document, UnitOutcome, Path("x.json"), fix="Run again")

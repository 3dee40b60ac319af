# ruff: noqa: N812 - TVMScript
"""A boundary is chosen by names that the model has, kept as JSON, and refused where it is wrong."""

from __future__ import annotations

import contextlib
import json
import re

import pytest
from damaged_json import damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.errors import UsageError
from relax_tapml.partition.boundary import Boundary, boundary_of, read_boundary
from relax_tapml.partition.lower import lower
from relax_tapml.partition.site_table import kind_of, layer_of, site_table


@I.ir_module
class Layered:
    """An embedding, three layers of two kinds of operators, a head, and a second function."""

    @R.function
    def main(
        x: R.Tensor((4, 8), "float32"),
        p_embed: R.Tensor((8,), "float32"),
        p_layers_0_weight: R.Tensor((8, 8), "float32"),
        p_layers_1_weight: R.Tensor((8, 8), "float32"),
        p_layers_2_weight: R.Tensor((8, 4), "float32"),
        p_head: R.Tensor((4,), "float32"),
    ):
        R.func_attr({"num_input": 1})
        a = R.add(x, p_embed)
        b = R.nn.softmax(a)
        c = R.matmul(b, p_layers_0_weight)
        d = R.nn.softmax(c)
        e = R.matmul(d, p_layers_1_weight)
        f = R.nn.softmax(e)
        g = R.matmul(f, p_layers_2_weight)
        h = R.nn.softmax(g)
        return R.add(h, p_head)

    @R.function
    def other(x: R.Tensor((4, 8), "float32")):
        y = R.nn.softmax(x)
        return R.sum(y)


@pytest.fixture(scope="module")
def table():
    return site_table(lower(Layered))


SITES = [
    "main/000/add",
    "main/001/softmax",
    "main/002/matmul",
    "main/003/softmax",
    "main/004/matmul",
    "main/005/softmax",
    "main/006/matmul1",
    "main/007/softmax1",
    "main/008/add1",
    "other/000/softmax",
    "other/001/sum",
]


def test_every_site_has_its_place(table):
    """A site that reads no weight belongs to the layer of the one before it."""
    assert [entry.site.id for entry in table] == SITES
    layers = ["", "", *["layers_0"] * 2, *["layers_1"] * 2, *["layers_2"] * 2, "", "", ""]
    assert [entry.layer for entry in table] == layers
    assert table[6].kind == table[2].kind == "matmul"


@pytest.mark.parametrize(
    ("chosen", "sites"),
    [
        ({}, []),
        ({"units": ["softmax"]}, [1, 3, 5, 9]),
        ({"kinds": ["softmax"]}, [1, 3, 5, 7, 9]),
        ({"layers": ["layers_1"]}, [4, 5]),
        ({"layers": ["layers_0-1"]}, [2, 3, 4, 5]),
        ({"functions": ["other"]}, [9, 10]),
        ({"sites": ["main/003/softmax"]}, [3]),
        ({"units": ["sum"], "layers": ["layers_2-2"], "sites": ["main/000/add"]}, [0, 6, 7, 10]),
    ],
    ids=str,
)
def test_sites_are_chosen_by_any_of_their_names(chosen, sites, table):
    """What several fields choose is taken together."""
    assert sorted(Boundary(**chosen).among(table)) == [SITES[index] for index in sites]


@pytest.mark.parametrize(
    ("chosen", "pattern"),
    [
        ({"units": ["sofmax"]}, r"unit 'sofmax'; .* softmax, softmax1, \.\.\."),
        ({"kinds": ["conv"]}, "kind 'conv'; .* add, softmax, matmul, sum"),
        ({"layers": ["layers_1-3"]}, "layer 'layers_3'; .* layers_2, layers_1, layers_0"),
        ({"layers": ["layers_2-1"]}, "layers 'layers_2-1' end before"),
        ({"layers": ["layers_0-999999999"]}, "layers 'layers_0-999999999' .*1000000000"),
        ({"layers": [f"layers_0-{'9' * 5000}"]}, "layer 'layers_0-999"),
        ({"functions": ["mian"]}, r"function 'mian'; .* main, \.\.\."),
        ({"sites": ["main/009/softmax"]}, "site 'main/009/softmax'; "),
    ],
    ids=str,
)
def test_a_name_the_model_does_not_have_is_refused(chosen, pattern, table):
    """With the names it has; a boundary without it would not be the requested one."""
    with pytest.raises(UsageError, match=f"^boundary: .*{pattern}"):
        Boundary(**chosen).among(table)


def test_layers_of_a_model_without_layers_are_refused(table):
    """No weight has a number in its name."""
    bare = [entry for entry in table if not entry.layer]
    with pytest.raises(UsageError, match="no layers"):
        Boundary(layers=["layers_0"]).among(bare)


@given(chosen=st.sets(st.sampled_from(SITES)))
def test_sites_come_back_from_the_file(chosen, table, tmp_path_factory):
    """What a step writes selects the same sites, by unit where it can."""
    boundary = boundary_of(chosen, table)
    path = tmp_path_factory.mktemp("boundary") / "boundary.json"
    path.write_text(json.dumps(boundary.document()))
    assert read_boundary(path) == boundary
    assert boundary.among(table) == chosen
    whole = {"softmax": [1, 3, 5, 9], "sum": [10]}
    for unit, indices in whole.items():
        assert (unit in boundary.units) == chosen.issuperset(SITES[index] for index in indices)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (None, "cannot be read: No such file"),
        ("{", "Expecting property name"),
        ("[]", '"kind": "relax_tapml.boundary"'),
        ('{"kind": "relax_tapml.boundary", "schema": 9}', "expected schema 1, got 9"),
        (
            '{"kind": "relax_tapml.boundary", "schema": 1, "unit": ["a"]}',
            "unit; expected units, kinds, layers, functions, sites",
        ),
        ('{"kind": "relax_tapml.boundary", "schema": 1, "units": "a"}', "units.* 'a'"),
    ],
)
def test_a_file_that_is_no_boundary_is_refused(text, pattern, tmp_path):
    """With what is wrong in it."""
    path = tmp_path / "b.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=f"^boundary {re.escape(str(path))}.*{pattern}"):
        read_boundary(path)


@settings(
    max_examples=100,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_other_value_in_a_boundary_is_refused_or_harmless(data, table, tmp_path):
    """It never ends in another error than a UsageError."""
    good = Boundary(units=["softmax"], layers=["layers_0-1"], kinds=["sum"]).document()
    path = tmp_path / "b.json"
    path.write_text(json.dumps(data.draw(damaged(good))))
    with contextlib.suppress(UsageError):
        read_boundary(path).among(table)


def test_a_string_is_no_list_of_names():
    """As a collection it would be a list of its letters."""
    with pytest.raises(UsageError, match=r"units .*'softmax'"):
        Boundary(units="softmax")


@pytest.mark.parametrize(
    ("unit", "kind"),
    [
        ("matmul", "matmul"),
        ("fused_matmul4_add2", "fused_matmul_add"),
        ("conv2d3", "conv2d"),
        ("take_12", "take_12"),
    ],
)
def test_a_kind_has_no_numbers(unit, kind):
    """A part that is nothing but a number stays."""
    assert kind_of(unit) == kind


@pytest.mark.parametrize(
    ("weight", "layer"),
    [
        ("p_bert_encoder_layer_0_attention_weight", "bert_encoder_layer_0"),
        ("model.layers.11.mlp.weight", "model.layers.11"),
        ("stages_2_layers_1_conv_weight", "stages_2"),
        ("conv1_weight", ""),
        ("w", ""),
    ],
)
def test_a_layer_is_the_first_number_in_a_name(weight, layer):
    """Numbers inside a word are none; of nested layers the outer one counts."""
    assert layer_of(weight) == layer

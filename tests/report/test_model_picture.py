from __future__ import annotations

from made_results import run_of, unit

from relax_tapml.report._model_picture import ModelPicture, Row, kind_text, lay_out_model
from relax_tapml.results.run_result import RunResult, UnjudgedUnit


def run_with(sites: list[tuple[str, str]], wrong: str = "", function: str = "main") -> RunResult:
    """Return a run whose sites have these units and modules, in this order."""
    origins: dict[str, dict[str, tuple[str, ...]]] = {}
    for number, (name, module) in enumerate(sites):
        site = f"{function}/{number:03d}/{name}"
        origins.setdefault(name, {})[site] = (module,) if module else ()
    units = [
        unit(name, "mismatch" if name == wrong else "pass", origins=places, sites=len(places))
        for name, places in origins.items()
    ]
    return run_of(units)


def rows_of(picture: ModelPicture) -> tuple[Row, ...]:
    ((_, rows),) = picture.functions
    return rows


def layers(count: int, *, with_origins: bool = True) -> list[tuple[str, str]]:
    names = ("matmul", "softmax", "matmul1", "add")
    return [
        (name, f"model.layers.{layer}.{name}:x" if with_origins else "")
        for layer in range(count)
        for name in names
    ]


def test_equal_layers_share_a_row() -> None:
    """What is before and behind them has a row of its own."""
    sites = [("take", "model.embed"), *layers(24), ("norm", "model.norm")]
    first, body, last = rows_of(lay_out_model(run_with(sites, wrong="softmax")))
    assert (first.times, body.times, last.times) == (1, 24, 1)
    assert body.name == "model.layers.* (0-23)"
    assert [cell.kind for cell in body.cells] == ["matmul", "softmax", "matmul", "add"]
    assert [cell.is_wrong for cell in body.cells] == [False, True, False, False]
    assert body.text == "4 sites: 3 pass, 1 mismatch"
    assert body.cells[1].number == 2  # in the table of units


def test_layers_of_two_kinds_have_two_rows() -> None:
    sites = [
        (name, f"model.layers.{layer}")
        for layer in range(8)
        for name in (("norm", "local") if layer % 2 else ("norm", "whole"))
    ]
    rows = rows_of(lay_out_model(run_with(sites)))
    assert [(row.name, row.times) for row in rows] == [
        ("model.layers.* (0, 2, 4, 6)", 4),
        ("model.layers.* (1, 3, 5, 7)", 4),
    ]


def test_a_site_without_a_place_belongs_to_the_layer_before_it() -> None:
    """Reshapes read no weights, so not every frontend knows where they come from."""
    sites = [
        (name, f"layers.{layer}.x" if name == "matmul" else "")
        for layer in range(3)
        for name in ("matmul", "reshape")
    ]
    (row,) = rows_of(lay_out_model(run_with(sites)))
    assert (row.times, len(row.cells)) == (3, 2)


def test_units_that_repeat_in_order_are_layers_where_no_place_is_known() -> None:
    sites = [("take", ""), *layers(12, with_origins=False), ("norm", "")]
    rows = rows_of(lay_out_model(run_with(sites)))
    assert [(row.times, len(row.cells)) for row in rows] == [(1, 1), (12, 4), (1, 1)]


def test_calls_in_a_row_of_one_unit_are_one_cell() -> None:
    (row,) = rows_of(lay_out_model(run_with([("add", "")] * 3)))
    assert [(cell.count, cell.title) for cell in row.cells] == [
        (3, "main/000/add to main/002/add, pass")
    ]


def test_units_that_nobody_judged_are_drawn_too() -> None:
    run = run_of(unjudged=(UnjudgedUnit(name="gelu", origins={"main/000/gelu": ()}),))
    ((cell,),) = [row.cells for row in rows_of(lay_out_model(run))]
    assert (cell.verdict, cell.number, cell.is_wrong) == (None, None, False)


def test_functions_are_apart_and_strange_sites_left_out() -> None:
    one = run_with([("add", "")] * 2, function="decode")
    other = run_with([("add1", "")] * 2)
    strange = unit("x", origins={"no site": (), "main/99999999999999/x": ()})
    picture = lay_out_model(run_of([*one.units, *other.units, strange]))
    assert [name for name, _ in picture.functions] == ["decode", "main"]


def test_functions_of_one_call_share_a_row() -> None:
    """As the kernels that a KV cache calls, each in a function of its own."""
    runs = [run_with([(f"append{n}", "")], function=f"callback_{n}") for n in range(12)]
    picture = lay_out_model(run_of([one for run in runs for one in run.units]))
    ((name, (row,)),) = picture.functions
    assert (name, len(row.cells)) == ("", 12)


def test_the_number_of_cells_is_bounded() -> None:
    """What is not drawn is counted."""
    sites = [(f"unit{number}", "") for number in range(3000)]
    picture = lay_out_model(run_with(sites))
    assert picture.cells + picture.left_out == 3000
    assert picture.left_out == 500


def test_a_kind_is_the_operators_of_a_unit() -> None:
    assert kind_text("fused_matmul4_add2") == "matmul add"
    assert kind_text("fused") == "fused"
    assert kind_text("1") == "1"

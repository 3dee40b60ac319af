"""What moves in one step, and in which order."""

from __future__ import annotations

import pytest

from relax_tapml.errors import UsageError
from relax_tapml.migrate.move_groups import By, move_batches
from relax_tapml.partition.site_table import SiteEntry
from relax_tapml.passes.site import Site


def entry(text, kind, layer=""):
    return SiteEntry(site=Site.parse(text), kind=kind, layer=layer)


TABLE = [
    entry("main/000/take", "take"),
    entry("main/001/add1", "add", "h_0"),
    entry("main/002/gelu", "gelu", "h_0"),
    entry("main/003/add2", "add", "h_1"),
    entry("main/004/gelu", "gelu", "h_1"),
    entry("next/000/gelu", "gelu"),
]
ALL = {item.site.id for item in TABLE}


def names(by, movable=ALL):
    return [[part.name for part in group] for group in move_batches(TABLE, by, movable)]


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        (By.UNIT, [["take"], ["add1"], ["gelu"], ["add2"]]),
        (By.KIND, [["take"], ["add1", "add2"], ["gelu"]]),
        (
            By.LAYER,
            [
                ["main/000/take"],
                ["main/001/add1", "main/002/gelu"],
                ["main/003/add2", "main/004/gelu"],
                ["next/000/gelu"],
            ],
        ),
        (By.FUNCTION, [sorted(ALL - {"next/000/gelu"}), ["next/000/gelu"]]),
        (By.SITE, [[site] for site in sorted(ALL)]),
    ],
)
def test_sites_move_as_asked(by, groups):
    """Every site is in one part of one group, in the order of the program."""
    assert names(by) == groups
    sites = [s for group in move_batches(TABLE, by, ALL) for p in group for s in p.sites]
    assert sorted(sites) == sorted(ALL)


@pytest.mark.parametrize("by", list(By))
def test_a_part_has_the_sites_of_one_unit(by):
    """So that a part that fails names one unit."""
    for group in move_batches(TABLE, by, ALL):
        for part in group:
            assert {Site.parse(site).unit for site in part.sites} == {part.unit}


def test_what_may_not_move_is_in_no_part():
    """A unit moves with those of its sites that may leave the host."""
    movable = {"main/002/gelu", "main/001/add1"}
    (add,), (gelu,) = move_batches(TABLE, By.UNIT, movable)
    assert (add.sites, gelu.sites) == ({"main/001/add1"}, {"main/002/gelu"})
    assert names(By.KIND, set()) == []


def test_a_model_without_layers_cannot_move_by_layer():
    """The names of its weights do not tell."""
    bare = [item for item in TABLE if not item.layer]
    with pytest.raises(UsageError, match=r"^--by layer: no weight of the model has a number"):
        move_batches(bare, By.LAYER, ALL)

"""The text of the places that an operator comes from."""

from __future__ import annotations

import pytest

from relax_tapml.passes.origin import Origin, site_text, unit_text


def origins(*texts):
    return [Origin.parse(text) for text in texts]


@pytest.mark.parametrize(
    "origin",
    [
        Origin(module="encoder.layer.0", node="add_1"),
        Origin(module="model.norm"),
        Origin(module="", node="x"),
    ],
)
def test_a_text_is_read_back(origin):
    assert Origin.parse(origin.text) == origin


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], ""),
        (["a.b:mm"], "a.b"),
        (["a.b:mm", "a.b:add"], "a.b"),
        (["e.3.output.dense:mm", "e.3.output.LayerNorm:ln"], "e.3.output.dense + LayerNorm"),
        (["e.3.dense:mm", "e.4.dense:mm"], "e.3.dense + 4.dense"),
        (["e.output:add", "e.output.norm:ln"], "e.output + norm"),
        (["e.output.norm:ln", "e.output:add"], "e.output.norm + output"),
        ([":add", "a.b:mm", ":mul"], "a.b"),
        ([":add", ":mul"], "add + mul"),
        (["model.layers.0.mlp.up"], "model.layers.0.mlp.up"),
    ],
)
def test_modules_of_a_site_are_listed_once_and_shortly(texts, expected):
    """What a module shares with the one before it is left out; nodes only where nothing else is."""
    assert site_text(origins(*texts)) == expected


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ([], ""),
        ([[]], ""),
        ([["h.0.act:gelu"], ["h.1.act:gelu"]], "h.*.act"),
        ([["h.3.act:gelu"]], "h.3.act"),
        ([["h.3.act:gelu"], ["h.3.act:gelu_1"]], "h.3.act"),
        ([["h.0.q:mm"], ["h.0.k:mm"], ["h.1.q:mm"], ["h.1.k:mm"]], "h.*.q, k"),
        ([["a:x"], ["b:x"], ["c:x"], ["d:x"], ["e:x"]], "a, b, c and 2 more"),
        ([["h.0.conv1:x"], ["h.0.conv2:x"]], "h.0.conv1, conv2"),
    ],
)
def test_repeated_layers_of_a_unit_are_one_pattern(sites, expected):
    assert unit_text(origins(*texts) for texts in sites) == expected

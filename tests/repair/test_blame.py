"""The layer of a fault follows from what is right and what is wrong."""

from __future__ import annotations

import pytest

from relax_tapml.compare.verdict import Verdict
from relax_tapml.repair.alternative import Layer
from relax_tapml.repair.blame import blamed
from relax_tapml.repair.tried import Tried


def tried(**verdicts):
    """Alternatives by their layer, as ``option="pass"``."""
    layers = {layer.name.lower(): layer for layer in Layer}
    return [
        Tried(name=name, layer=layers[name], text=f"by {name}", verdict=Verdict(verdict))
        for name, verdict in verdicts.items()
    ]


@pytest.mark.parametrize(
    ("given", "layer", "words"),
    [
        ({"option": "pass", "schedule": "mismatch"}, Layer.OPTION,
         "right by option; wrong by schedule"),
        ({"option": "mismatch", "schedule": "pass"}, Layer.SCHEDULE,
         "right by schedule; wrong by option"),
        ({"definition": "pass", "schedule": "crash"}, Layer.DEFINITION,
         "right by definition; wrong by schedule"),
        ({"lowering": "pass", "option": "pass"}, Layer.LOWERING,
         "right by lowering; also by option"),
        ({"pipeline": "pass"}, Layer.PIPELINE, "right by pipeline"),
        ({"option": "mismatch", "schedule": "build_error"}, Layer.UNKNOWN,
         "wrong in every way that was tried: by option, by schedule"),
        ({"option": "inconclusive"}, Layer.UNKNOWN, "no alternative could be judged"),
        ({}, Layer.UNKNOWN, "no alternative applies"),
    ],
)  # fmt: skip
def test_the_layer_is_that_of_the_least_change_that_is_right(given, layer, words):
    found, text = blamed(tried(**given))
    assert found is layer
    assert words in text

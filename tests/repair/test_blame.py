"""The layer of a fault follows from what is right and what is wrong."""

from __future__ import annotations

import pytest

from relax_tapml.compare.verdict import Verdict
from relax_tapml.repair.alternative import Layer
from relax_tapml.repair.blame import Elsewhere, blamed
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
        ({"code_generation": "pass", "schedule": "mismatch"}, Layer.CODE_GENERATION,
         "right by code_generation; wrong by schedule"),
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


def schedules(*verdicts):
    """Some schedules, after an option that is wrong."""
    return tried(option="mismatch") + [
        Tried(name=str(n), layer=Layer.SCHEDULE, text=f"by {n}", verdict=Verdict(verdict))
        for n, verdict in enumerate(verdicts)
    ]


def test_all_schedules_are_told_in_one():
    """One that is not as the others is told by its name."""
    assert blamed(schedules("mismatch", "crash"))[1].endswith("by option, with any schedule")
    assert blamed(schedules("pass", "pass"))[1] == "right with any other schedule; wrong by option"
    assert "right by 1; wrong by option, by 0" in blamed(schedules("mismatch", "pass"))[1]


@pytest.mark.parametrize(
    ("given", "is_same_code", "verdict", "layer", "words"),
    [
        ({"option": "mismatch"}, True, "pass", Layer.DRIVER, "the same code is right on it"),
        ({"option": "mismatch"}, True, "mismatch", Layer.UNKNOWN, "the same code is wrong on it"),
        ({"option": "mismatch"}, False, "mismatch", Layer.DEFINITION, "lowered is wrong on it"),
        ({"option": "mismatch"}, False, "pass", Layer.UNKNOWN, "lowered is right on it"),
        ({"option": "mismatch"}, False, "build_error", Layer.UNKNOWN, "wrong in every way"),
        ({}, True, "pass", Layer.DRIVER, "the same code is right on it"),
        ({"option": "pass"}, True, "pass", Layer.OPTION, "right by option"),
    ],
)
def test_other_devices_tell_what_alternatives_do_not(given, is_same_code, verdict, layer, words):
    """What does not build there tells nothing, and an alternative that is right tells more."""
    there = Elsewhere(text="on it", verdict=Verdict(verdict), is_same_code=is_same_code)
    found, text = blamed(tried(**given), [there])
    assert found is layer
    assert words in text

"""Run the units of a suite alone on a device, and compare them with what was recorded.

``replays.replay`` takes a ``Suite`` and a target and returns a ``ReplayReport``; ``results`` gives
it as JSON types. ``replays.unit`` runs one case of one unit, ``replays.fleet`` spreads units over
several devices. The room is not called ``replay``, which is the public function of the package.
"""

__all__ = [
    "endurance",
    "fleet",
    "matrix",
    "replay",
    "results",
    "unit",
]

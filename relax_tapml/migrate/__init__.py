"""Move the boundary between host and device, step by step, and name what is wrong.

``Migration`` is a search: a strategy proposes boundaries, ``Trial`` runs the model with each,
``StepResult`` is what came of it, and ``InContext`` what follows for a unit. ``pipeline_step`` runs
the module that a device's pipeline returned, and finds the wrong pass in it. Strategies have a room
of their own, ``migrate.strategies``.
"""

__all__ = [
    "built_sides",
    "cache_step",
    "choices",
    "driver",
    "in_context",
    "migration",
    "move_groups",
    "pipeline_step",
    "strategies",
    "trial",
    "whole_trial",
]

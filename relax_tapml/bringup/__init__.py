"""The main job, one file a stage: from a model to ``result.json``.

``lower_model``, ``build_source`` and ``trust_source``, ``capture``, ``carve``, ``prepare_target``
and ``build_target``, ``replay_alone``, ``migrate``, ``summarise``: each takes and returns frozen
dataclasses, and can be used without the others. ``bring_up.run_stages`` calls them in order, with
what ``RunFolder`` kept of an earlier run. Nothing but the command line, ``mlc`` and the package
itself imports this room.
"""

__all__ = [
    "bring_up",
    "carved_suite",
    "ir_dump",
    "lowered_model",
    "migrate_model",
    "options",
    "replay_alone",
    "run_folder",
    "side_spec",
    "summarise",
    "target_build",
    "trusted_source",
]

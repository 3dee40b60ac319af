"""One suite with two builds - TVMs, options, pipelines, devices - and what changes between them.

``build_spec`` reads what a build is. ``build_process`` is a process with the interpreter and the
environment of one build, which replays units and times them (``_build_main``); ``_bootstrap`` is
what another interpreter runs first. ``_transcript`` gives a suite to a TVM that cannot read its
modules. ``changes`` and ``in_turns`` decide what counts as a change. ``compare_builds`` is the
whole.
"""

__all__ = [
    "build_process",
    "build_spec",
    "changes",
    "compare_builds",
    "in_turns",
]

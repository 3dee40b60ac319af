"""A suite on disk: what is in it, and how it is opened, written, changed and merged.

``open_suite`` checks every file once and returns a ``Suite``, which all others take; nothing of a
suite is used unchecked. ``manifest`` has the types of its entries, ``tolerances`` what a case may
be off by. ``SuiteFiles`` writes files for ``carve``; ``revise_suite`` and ``note_target`` change
them afterwards, and ``merge`` joins suites. ``reproducer`` writes one case as a script, and
``script_run`` runs it.
"""

__all__ = [
    "composite_units",
    "copies",
    "kernel_text",
    "manifest",
    "manifest_file",
    "merge",
    "model_beside",
    "note_target",
    "open_suite",
    "pytest_file",
    "recipe",
    "reproducer",
    "revise_suite",
    "script_run",
    "suite_files",
    "tolerances",
    "trace_inputs",
    "transcript",
]

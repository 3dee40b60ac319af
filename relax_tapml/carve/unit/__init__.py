"""One unit of a suite: its module, the functions of its cases, and their tolerances.

``unit_module`` writes one recorded call as a Relax function; ``UnitTolerances`` evaluates it in
float64, each evaluation numbered by ``Evaluations`` so that one that crashes can be left out.
``part_weights`` and ``read_rows`` find what of large weights a suite must hold, ``copied_axes`` of
other large tensors; ``constant_inputs`` finds what was the same in all calls. The result is a
``CarvedUnit``, not yet on disk.
"""

__all__ = [
    "carved_unit",
    "constant_inputs",
    "copied_axes",
    "evaluations",
    "part_weights",
    "read_rows",
    "unit_module",
    "unit_tolerances",
]

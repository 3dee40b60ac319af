"""One unit of a suite: its module, the functions of its cases, and their tolerances.

``unit_module`` writes one recorded call as a Relax function; ``UnitTolerances`` evaluates it in
float64, each evaluation numbered by ``Evaluations`` so that one that crashes can be left out.
``part_weights`` and ``read_rows`` find what of large weights a suite must hold, ``choose_copies``
of other large tensors; a call of which some places are held is evaluated as the smaller one that
computes these (``held_call``). ``constant_inputs`` finds what was the same in all calls. The result
is a ``CarvedUnit``, not yet on disk.
"""

__all__ = [
    "call_tensors",
    "carved_unit",
    "choose_copies",
    "constant_inputs",
    "copied_axes",
    "evaluations",
    "exchange_kernel",
    "held_call",
    "part_weights",
    "read_rows",
    "unit_module",
    "unit_tolerances",
]

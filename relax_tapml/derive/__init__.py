"""Tolerances derived from the kernel itself.

A PrimFunc and the arguments of one call flow in; a ``Tolerance`` of ``compare.tolerances`` for each
result flows out. The kernel is rewritten to its shadow kernel, which computes in float64 and keeps
an error bound beside each value. Use ``choice_derivation.derivation_of`` for a PrimFunc and
``operators.operator_tolerances`` for an operator that each target lowers in its own way.
"""

__all__ = ["bounded", "choice_derivation", "derivation", "error_bounds", "operators"]

"""What a PrimFunc reads, writes and counts, found from its loops and indices without running it.

``kernel_call`` finds the call of a PrimFunc in a function of a case. ``interval`` and
``integer_values`` evaluate integer expressions; ``stores``, ``element_flow`` and ``accesses``
follow data; ``free_axes`` finds along which axes elements are computed by themselves,
and ``restricted_kernel`` computes some; ``iterations`` and ``loop_counts`` count what a call does.
An analysis that cannot follow a kernel raises ``stores.NotAnalyzableError``.
"""

__all__ = [
    "accesses",
    "element_flow",
    "expressions",
    "free_axes",
    "integer_values",
    "interval",
    "iterations",
    "kernel_call",
    "loop_counts",
    "plain_kernel",
    "restricted_kernel",
    "stores",
]

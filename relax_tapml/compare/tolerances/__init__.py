"""How far a result may be from its oracle, value by value, and why.

Each kind of tolerance is one file, which holds how values are judged and how a suite stores it;
``registry.KINDS`` lists those that suites store.
"""

__all__ = [
    "bound_table",
    "choices",
    "difference",
    "elements",
    "equal",
    "index",
    "registry",
    "rule",
    "stored",
    "tolerance",
    "usual_magnitude",
    "written",
]

"""From recorded calls to a suite: choose cases, derive their tolerances, add probes, write files.

In: the lowered module, a ``CaptureStore``, and the cases of ``select.choose_cases``. Out: the
``Suite`` that ``write_suite`` returns. ``sensitivity`` derives the tolerances of whole models, and
of units that run other units' kernels. ``unit`` makes one unit's module, ``probe`` and ``shape``
make cases that were not recorded; only ``write_suite`` uses these three.
"""

__all__ = ["probe", "select", "sensitivity", "shape", "unit", "write_suite"]

"""Judge a kernel that somebody wrote for a unit of a suite: ``verify_kernel.verify``.

In: a ``Suite``, the name of a unit, and a candidate, which ``load_kernel`` makes of a file: a
PrimFunc (TVMScript, or an IRModule as JSON), a Python callable on arrays of NumPy or torch, source
of CUDA or OpenCL with its launch (``source_file``), or a function of a shared library
(``library_file``); of the last two a PrimFunc is made that launches or calls
it. Out: a ``KernelReport`` of ``results.kernel_report``.

1. ``candidate_kernel``: what the file holds is found out in a process of its own; an interface that
   does not fit that of the unit is refused with both.
2. ``held_out``: fresh cases are made from the recorded ones with a drawn seed, and calls at the
   boundaries of symbolic dimensions. Their oracles and tolerances are those of probes: the float64
   evaluation of the unit. Cases that the unit's own kernel fails are dropped.
   They exist in the memory of this process only (``case_suite``), and the report says no more of
   them than how many there were and whether all passed, so nobody can fit a kernel to them.
3. The recorded cases, the suite's probes and the held-out cases run in a drawn order. A PrimFunc
   takes the place of the unit's kernel in a ``Replayer``; a callable runs in a process of its own
   (``callable_process``) on copies of the inputs, in memory that is poisoned and guarded. This
   process has the oracles, and compares.
4. ``speed``: after a pass, the candidate, the unit's own kernel and a copy are timed in turns, in
   ``timed_cases``, whose inputs no call had before and whose outputs are judged.

``serve`` offers this to clients of the Model Context Protocol.
"""

__all__ = [
    "callable_process",
    "candidate_kernel",
    "case_suite",
    "held_out",
    "library_file",
    "primfunc_run",
    "serve",
    "source_file",
    "speed",
    "timed_cases",
    "verify_kernel",
]

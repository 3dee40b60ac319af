"""Look for a kernel that is right, where a unit is wrong on its target or does not build.

``search.repair_unit`` takes the suite of a run and the kernels of its target. For a failing unit
the ``alternatives`` make other kernels of the same definition: without options that cost accuracy,
with other schedules, with operators or types written in another way. Each is judged alone on the
unit's cases, as any kernel is. ``blame`` says which layer the fault is in, from what is right and
what is wrong; ``elsewhere`` judges the unit on another device for that; ``call_times`` tells which
is the fastest. ``repairs_folder`` writes what was found as a pass that any build can
apply, with the scripts of ``reproducers``, which show why.
"""

__all__ = [
    "alternative",
    "alternatives",
    "blame",
    "call_times",
    "elsewhere",
    "repairs_folder",
    "reproducers",
    "search",
    "tried",
]

"""Replay the cases of one unit on one device and judge them.

In: a ``Suite``, a target and a device. ``Replayer`` builds and loads the units
(``unit_programs``), runs a case in memory that reveals what is not written, and compares
(``case_replay``); ``unit_replay`` makes one verdict of all cases, which ``power_check`` withholds
where no case could have failed; ``unwritten`` tells what a call never wrote, ``timed_call`` how
long one takes.
Out: ``CaseReplay`` and ``UnitReplay``.
"""

__all__ = [
    "case_replay",
    "power_check",
    "replayer",
    "timed_call",
    "unit_programs",
    "unit_replay",
    "unwritten",
]

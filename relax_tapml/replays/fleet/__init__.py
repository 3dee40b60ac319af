"""Replay units on several devices of one kind at once.

``FleetReplay`` gives units to one thread for each leased device, repeats what fails on another
device, and decides by majority. In: a function that opens a ``Replayer`` on a device. Out: a
``UnitReplay`` for each unit, and what each device did. Only ``replays.replay`` uses it.
"""

__all__ = ["fleet_replay"]

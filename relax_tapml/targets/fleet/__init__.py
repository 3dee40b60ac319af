"""Devices lent by a TVM RPC tracker, and a local tracker with servers.

In comes a tracker's address and key, out goes a session on whichever server is free. ``tracker``
lists and requests devices, ``lease`` opens sessions on them and replaces lost ones,
``local_fleet`` starts a tracker and servers on this machine, which serve this user only by
default.
"""

__all__ = ["lease", "local_fleet", "tracker"]

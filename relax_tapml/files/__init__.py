"""Read and write files: every read is bounded and checked, every write is atomic.

In come paths, out go bytes, JSON values and typed values, or a ``StoreError`` that names the file.
``read`` is the only reader of files of unknown origin, ``mapped`` maps large ones, ``replace`` is
the only writer of results. ``scratch`` and ``lock`` keep runs apart, ``closing`` is the base class
of what has to be closed.
``seals`` marks what this user wrote, ``names`` makes file names, ``cache_folder`` is for what is
built once for all runs. ``machine`` recognises errors that the machine causes (disk, memory,
descriptors), so that no unit is blamed for them.
"""

__all__ = [
    "cache_folder",
    "closing",
    "lock",
    "machine",
    "mapped",
    "names",
    "read",
    "replace",
    "scratch",
    "seals",
]

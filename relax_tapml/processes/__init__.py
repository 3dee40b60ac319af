"""Run work in other processes, limit its time, and end it cleanly.

``child`` starts helper processes that end with this one, ``fork`` does dangerous work in a fork and
returns what it sent, ``deadline`` ends calls that take too long (by processor time where a process
of this machine does the work), ``interrupt`` makes Ctrl-C, SIGTERM and SIGHUP one exception,
``within_memory`` does jobs beside each other as far as memory allows. Nothing here
knows models or targets; only ``fork`` imports TVM.
"""

__all__ = ["child", "deadline", "fork", "interrupt", "within_memory"]

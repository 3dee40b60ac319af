"""The command line: arguments in, text or JSON and an exit code out.

One file a command of ``relax-tapml``; ``exit`` turns errors into messages and exit codes,
``streams`` and ``console`` print safely, ``progress`` shows stages. Nothing imports this room but
``build`` and tests. It does not import TVM before a command needs it.
"""

__all__ = [
    "build",
    "capture",
    "compare_builds",
    "compared_builds",
    "console",
    "doctor",
    "exit",
    "explain",
    "fleet",
    "main",
    "matrix",
    "merge",
    "present",
    "progress",
    "repair",
    "replay",
    "replayed",
    "report",
    "reproduce",
    "reproduced",
    "streams",
    "trial",
    "trust",
    "verified",
    "verify",
]

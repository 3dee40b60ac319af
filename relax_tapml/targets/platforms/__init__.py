"""One module for each kind of target: how it compiles, what it needs, which sessions it has.

In comes a TVM target, out goes a ``platform.Platform``. Others find one with ``registry`` and read
targets with ``parse_target``; the platforms themselves are private. A new platform is one module
here and one line in ``registry``.
"""

__all__ = ["parse_target", "platform", "registry"]

"""``python -m relax_tapml.build``: bring a model up on a target, from one command."""

from __future__ import annotations

import sys

from relax_tapml.cli.build import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    sys.exit(main())

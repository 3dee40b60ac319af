"""``python -m relax_tapml.targets.arm64 DIR``: write the server and its files for a board."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from relax_tapml.errors import ExitCode, TapmlError
from relax_tapml.targets.arm64.server import copy_server


def main() -> int:
    """Write the folder; return an exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m relax_tapml.targets.arm64",
        description="Write an RPC server for 64-bit ARM Linux, with the libraries it needs.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="to be copied to the board")
    folder: Path = parser.parse_args().folder
    try:
        copy_server(folder)
    except (TapmlError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return int(getattr(error, "exit_code", ExitCode.INCONCLUSIVE))
    print(  # noqa: T201
        f"Copy {folder} to the board and start {folder.name}/run.sh --port 9090 there. All who can "
        "reach the port can run code on the board.\n"
        "Then, here: python -m relax_tapml.build MODEL --target arm64 --session rpc:BOARD:9090"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

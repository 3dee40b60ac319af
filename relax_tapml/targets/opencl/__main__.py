"""``python -m relax_tapml.targets.opencl``: print the path of the runtime, for TVM's RPC server."""

from __future__ import annotations

import sys

from relax_tapml.errors import DeviceUnavailable
from relax_tapml.targets.opencl.runtime import opencl_runtime


def main() -> int:
    """Compile it if need be; print an empty line where TVM has OpenCL of its own."""
    try:
        path = opencl_runtime()
    except DeviceUnavailable as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return int(error.exit_code)
    print(path or "")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

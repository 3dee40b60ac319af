"""The process of an emulated device: runs the server under an emulator, and ends as that ends.

Its arguments are the file descriptor of a listening socket and the command that starts the server;
its secret is the key that a client must present. TMPDIR is its own folder.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from relax_tapml.processes.child import end_with_parent


def main() -> None:
    """Serve one client, then end with the exit code or the signal of the emulator."""
    listener, *command = sys.argv[1:]
    key = end_with_parent()
    folder = Path(os.environ["TMPDIR"])
    # The emulator would write the memory of a server that crashes to a file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    process = subprocess.Popen(
        [*command, "--fd", listener, "--exchange", str(folder), "--once"],
        stdin=subprocess.DEVNULL,
        pass_fds=[int(listener)],
        env={**os.environ, "RELAX_TAPML_KEY": key},
        cwd=folder,
    )
    os.close(int(listener))
    code = process.wait()
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()

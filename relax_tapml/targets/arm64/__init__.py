"""64-bit ARM Linux devices: TVM's C++ runtime and an RPC server that needs no Python.

In comes a C++ cross compiler, out goes a folder with the server and its libraries, built once.
``toolchain`` finds the compiler and the emulator, ``runtime`` installs TVM's libraries for ARM,
``server`` compiles the server and copies it for a board, ``emulator`` runs it on this machine.
``python -m relax_tapml.targets.arm64 FOLDER`` writes what a board needs to a folder.
"""

__all__ = ["emulator", "runtime", "server", "toolchain"]

"""What 64-bit ARM Linux needs beside a compiler of kernels: a runtime, a server, an emulator."""

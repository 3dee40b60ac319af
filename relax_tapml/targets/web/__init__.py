"""WebGPU devices: kernels as WebAssembly, run by a browser or by Node.

In come WebAssembly objects and a way to open a page, out goes a ``session`` whose server is that
page. ``side_module`` links kernels, ``wasm_runtime`` compiles TVM's runtime, ``server`` starts the
gateway that serves the page, ``launch`` opens it, ``toolchain`` finds Emscripten, Chromium and
Node. Only the WebGPU platform uses this room.
"""

__all__ = ["launch", "server", "session", "side_module", "toolchain", "wasm_runtime"]

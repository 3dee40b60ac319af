"""The programs and packages that run a model in a browser."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import tvm

from relax_tapml._compat import IS_TVM_026
from relax_tapml.files.cache_folder import cache_folder
from relax_tapml.system import install_command
from relax_tapml.targets.toolchain.requirement import Requirement, program

# Versions that were tested together: TVM's wire format and its JavaScript half must match.
NPM_PACKAGES = ("@mlc-ai/web-runtime@0.27.0-dev0", "webgpu@0.6.2", "ws@8.23.0")
NODE_COMMAND = install_command(debian="nodejs npm", macos="brew install node")
BROWSER_COMMAND = install_command(debian="chromium", macos="brew install --cask google-chrome")
_BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
_LINKERS = ("wasm-ld", "wasm-ld-19", "wasm-ld-18", "wasm-ld-17", "wasm-ld-16", "wasm-ld-14")


def npm_folder() -> Path:
    """Return the folder of the npm packages."""
    return cache_folder() / "npm"


def npm_command() -> str:
    """Return the command that installs them, without running their install scripts."""
    return f"npm install --ignore-scripts --prefix {npm_folder()} {' '.join(NPM_PACKAGES)}"


def javascript_runtime() -> Path:
    """Return the path of TVM's JavaScript runtime, which exists if the requirements are met."""
    return npm_folder() / "node_modules" / "@mlc-ai" / "web-runtime" / "lib" / "index.js"


def browser() -> str | None:
    """Return the browser: ``RELAX_TAPML_BROWSER``, or the first one found; None if missing."""
    chosen = os.environ.get("RELAX_TAPML_BROWSER")
    return _first((chosen,) if chosen else _BROWSERS)


def node() -> str | None:
    """Return Node, None if it or a package for it is missing."""
    return shutil.which("node") if _has_packages() else None


def linker() -> str | None:
    """Return LLVM's linker for WebAssembly, None if there is none."""
    return _first(_LINKERS)


def requirements() -> list[Requirement]:
    """Return what compiling kernels for WebGPU and running them here needs, found or missing."""
    return [
        Requirement(
            name="TVM 0.27",
            use="has the sources that match the JavaScript half",
            found=None if IS_TVM_026 else tvm.__version__,
            install="pip install apache-tvm==0.27.0.post1",
        ),
        Requirement(
            name="wasm-ld",
            use="links kernels",
            found=linker(),
            install=install_command(debian="emscripten", macos="brew install lld"),
        ),
        program(
            "emcc",
            use="compiles TVM's runtime to WebAssembly, once",
            install=install_command(debian="emscripten", macos="brew install emscripten"),
        ),
        program(
            "node",
            use="runs --session node, WebGPU without a browser, and comes with npm",
            install=NODE_COMMAND,
            is_needed=False,
        ),
        npm_packages(),
        Requirement(
            name="chromium",
            use="is the browser of --session process",
            found=browser(),
            install=BROWSER_COMMAND,
            is_needed=False,
        ),
    ]


def npm_packages() -> Requirement:
    """Return the requirement of the JavaScript packages."""
    return Requirement(
        name="npm packages",
        use="run it: TVM's JavaScript runtime, and for Node WebGPU and WebSockets",
        found=str(npm_folder() / "node_modules") if _has_packages() else None,
        install=npm_command(),
    )


def _has_packages() -> bool:
    names = (package.rpartition("@")[0] for package in NPM_PACKAGES)
    return all((npm_folder() / "node_modules" / name).is_dir() for name in names)


def _first(names: tuple[str, ...]) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)

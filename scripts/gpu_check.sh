#!/usr/bin/env bash
# Whether a GPU computes what a CPU does, and how fast: the CUDA tests, then the benchmark, in a few minutes of a card.
#   bash scripts/gpu_check.sh [--minutes 8] [--authors CHECKOUT] [--wheels FOLDER] [--out FILE.json]
# It needs a PyTorch that sees the card (PYTHON, default: python3), and no network. Packages that this PYTHON lacks come
# from the wheels of a folder, which `pip wheel -w FOLDER -r requirements-dev.txt` fills on another machine; those of
# PyTorch and CUDA in it are left out. All other options: python scripts/tools/gpu_check.py --help
set -euo pipefail
if [[ " $* " == *" --help "* ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
fi
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
options=()
while [ $# -gt 0 ]; do
    if [ "$1" = --wheels ]; then
        wheels=${2:?--wheels needs a folder}
        [ -d "$wheels" ] || { echo "error: --wheels is $wheels, which is no folder" >&2; exit 2; }
        shift 2
    else
        options+=("$1")
        shift
    fi
done
if [ -n "${wheels:-}" ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    find "$wheels" -name '*.whl' | grep -Ev '/(torch|triton|nvidia|cuda)[^/]*$' |
        xargs "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --target "$site"
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
"$PYTHON" scripts/tools/gpu_check.py ${options[@]+"${options[@]}"}

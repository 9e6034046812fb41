#!/usr/bin/env bash
# ProGrad: test the 4-shot ImageNet models of prograd.sh (16 context tokens, class name at the end) on DATASET.
#   DATA=/path/to/datasets bash scripts/prograd/eval.sh DATASET CFG
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 2 ] || { echo "error: $# arguments; give DATASET CFG" >&2; exit 2; }
exec "$PYTHON" scripts/launch.py few_shot_test ProGrad "$1" --cfg "$2" --shots 4 "${@:3}"

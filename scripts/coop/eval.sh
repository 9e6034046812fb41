#!/usr/bin/env bash
# CoOp: test the 16-shot ImageNet models of main.sh (16 context tokens, class name at the end) on DATASET.
#   DATA=/path/to/datasets bash scripts/coop/eval.sh DATASET CFG
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 2 ] || { echo "error: $# arguments; give DATASET CFG" >&2; exit 2; }
exec "$PYTHON" scripts/launch.py few_shot_test CoOp "$1" --cfg "$2" "${@:3}"

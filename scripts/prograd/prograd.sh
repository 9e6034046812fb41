#!/usr/bin/env bash
# ProGrad, few-shot: train on all classes, with seeds 1, 2 and 3.
#   DATA=/path/to/datasets bash scripts/prograd/prograd.sh DATASET CFG POSITION N_CTX SHOTS CSC
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 6 ] || { echo "error: $# arguments; give DATASET CFG POSITION N_CTX SHOTS CSC" >&2; exit 2; }
exec "$PYTHON" scripts/launch.py few_shot ProGrad "$1" --cfg "$2" --position "$3" --n-ctx "$4" --shots "$5" \
    --csc "$6" "${@:7}"

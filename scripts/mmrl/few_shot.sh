#!/usr/bin/env bash
# MMRL, few shots: train on 1, 2, 4, 8 and 16 images of every class, and test them; seeds 1, 2, 3.
#   DATA=/path/to/datasets bash scripts/mmrl/few_shot.sh DATASET
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 1 ] || { echo "error: $# arguments; give DATASET" >&2; exit 2; }
for SHOTS in 1 2 4 8 16; do
    "$PYTHON" scripts/launch.py few_shot MMRL "$1" --shots "$SHOTS" "${@:2}"
done

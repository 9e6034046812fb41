#!/usr/bin/env bash
# MMRL, base-to-new: train on the base classes, and test them; seeds 1, 2, 3.
#   DATA=/path/to/datasets bash scripts/mmrl/base2new_train.sh DATASET
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 1 ] || { echo "error: $# arguments; give DATASET" >&2; exit 2; }
for SEED in 1 2 3; do
    "$PYTHON" scripts/launch.py base2new_train MMRL "$1" "$SEED" "${@:2}"
done

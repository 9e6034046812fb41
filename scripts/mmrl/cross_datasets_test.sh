#!/usr/bin/env bash
# MMRL, cross-dataset: test the models of cross_datasets_train.sh on DATASET; seeds 1, 2, 3.
#   DATA=/path/to/datasets bash scripts/mmrl/cross_datasets_test.sh DATASET
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 1 ] || { echo "error: $# arguments; give DATASET" >&2; exit 2; }
for SEED in 1 2 3; do
    "$PYTHON" scripts/launch.py xd_test MMRL "$1" "$SEED" "${@:2}"
done

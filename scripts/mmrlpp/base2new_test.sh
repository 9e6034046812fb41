#!/usr/bin/env bash
# MMRL++, base-to-new: test the models of base2new_train.sh on the new classes; seeds 1, 2, 3.
#   DATA=/path/to/datasets bash scripts/mmrlpp/base2new_test.sh DATASET
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 1 ] || { echo "error: $# arguments; give DATASET" >&2; exit 2; }
for SEED in 1 2 3; do
    "$PYTHON" scripts/launch.py base2new_test MMRLpp "$1" "$SEED" "${@:2}"
done

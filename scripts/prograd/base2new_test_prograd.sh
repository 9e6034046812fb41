#!/usr/bin/env bash
# ProGrad, base-to-new: test the models of base2new_train_prograd.sh on the new classes.
#   DATA=/path/to/datasets bash scripts/prograd/base2new_test_prograd.sh DATASET
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 1 ] || { echo "error: $# arguments; give DATASET" >&2; exit 2; }
CFG=rn50_ep100
[ "$1" != imagenet ] || CFG=rn50_ep50
for SEED in 1 2 3; do
    "$PYTHON" scripts/launch.py base2new_test ProGrad "$1" "$SEED" "$CFG" --shots 4 "${@:2}"
done

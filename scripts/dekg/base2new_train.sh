#!/usr/bin/env bash
# DeKg, base-to-new: train on the base classes, with seeds 1, 2 and 3; W1 weighs KgCoOp's term, W2 independence.
#   DATA=/path/to/datasets bash scripts/dekg/base2new_train.sh DATASET W1 W2
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 3 ] || { echo "error: $# arguments; give DATASET W1 W2" >&2; exit 2; }
for SEED in 1 2 3; do
    "$PYTHON" scripts/launch.py base2new_train DeKg "$1" "$SEED" "${@:4}" TRAINER.COOP.W "$2" LOSS.WEIGHT "$3"
done

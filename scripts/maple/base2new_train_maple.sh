#!/usr/bin/env bash
# MaPLe, base-to-new: train on the base classes and test them.
#   DATA=/path/to/datasets bash scripts/maple/base2new_train_maple.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_train MaPLe "$@"

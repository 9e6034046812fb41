#!/usr/bin/env bash
# MaPLe, base-to-new: test the model of base2new_train_maple.sh on the new classes.
#   DATA=/path/to/datasets bash scripts/maple/base2new_test_maple.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_test MaPLe "$@"

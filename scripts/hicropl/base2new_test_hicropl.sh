#!/usr/bin/env bash
# HiCroPL, base-to-new: test the model of base2new_train_hicropl.sh on the new classes.
#   DATA=/path/to/datasets bash scripts/hicropl/base2new_test_hicropl.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_test HiCroPL "$@"

#!/usr/bin/env bash
# UPT, base-to-new: test the model of base2new_train_upt.sh on the new classes.
#   DATA=/path/to/datasets bash scripts/upt/base2new_test_upt.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_test UPT "$@"

#!/usr/bin/env bash
# ProDA, base-to-new: test the model of base2new_train_proda.sh on the new classes.
#   DATA=/path/to/datasets bash scripts/proda/base2new_test_proda.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_test ProDA "$@"

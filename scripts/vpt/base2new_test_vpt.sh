#!/usr/bin/env bash
# VPT, base-to-new: test the model of base2new_train_vpt.sh on the new classes.
#   DATA=/path/to/datasets bash scripts/vpt/base2new_test_vpt.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_test VPT "$@"

#!/usr/bin/env bash
# MMA_BMIP, base-to-new: test the model of base2new_train.sh on the new classes.
#   DATA=/path/to/datasets bash scripts/mma_bmip/base2new_test.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_test MMA_BMIP "$@"

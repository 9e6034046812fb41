#!/usr/bin/env bash
# MMA_BMIP, base-to-new: train on the base classes and test them.
#   DATA=/path/to/datasets bash scripts/mma_bmip/base2new_train.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_train MMA_BMIP "$@"

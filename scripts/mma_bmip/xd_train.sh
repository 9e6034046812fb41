#!/usr/bin/env bash
# MMA_BMIP, cross-dataset: train on all classes of DATASET, which is imagenet in the field.
#   DATA=/path/to/datasets bash scripts/mma_bmip/xd_train.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_train MMA_BMIP "$@"

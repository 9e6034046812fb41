#!/usr/bin/env bash
# MMA_BMIP, cross-dataset: test the ImageNet model of xd_train.sh on DATASET.
#   DATA=/path/to/datasets bash scripts/mma_bmip/xd_test.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_test MMA_BMIP "$@"

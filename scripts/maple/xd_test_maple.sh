#!/usr/bin/env bash
# MaPLe, cross-dataset: test the ImageNet model of xd_train_maple.sh on DATASET.
#   DATA=/path/to/datasets bash scripts/maple/xd_test_maple.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_test MaPLe "$@"

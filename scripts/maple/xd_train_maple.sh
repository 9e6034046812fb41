#!/usr/bin/env bash
# MaPLe, cross-dataset: train on all classes of DATASET, which is imagenet in the field.
#   DATA=/path/to/datasets bash scripts/maple/xd_train_maple.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_train MaPLe "$@"

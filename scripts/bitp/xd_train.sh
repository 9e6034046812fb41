#!/usr/bin/env bash
# BITP, cross-dataset: train on all classes of DATASET, which is imagenet in the field.
#   DATA=/path/to/datasets bash scripts/bitp/xd_train.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_train BITP "$@"

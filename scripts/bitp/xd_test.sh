#!/usr/bin/env bash
# BITP, cross-dataset: test the ImageNet model of xd_train.sh on DATASET.
#   DATA=/path/to/datasets bash scripts/bitp/xd_test.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_test BITP "$@"

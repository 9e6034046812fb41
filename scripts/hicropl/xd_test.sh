#!/usr/bin/env bash
# HiCroPL, cross-dataset: test the ImageNet model of xd_train.sh on DATASET.
#   DATA=/path/to/datasets bash scripts/hicropl/xd_test.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_test HiCroPL "$@"

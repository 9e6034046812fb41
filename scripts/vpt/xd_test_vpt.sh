#!/usr/bin/env bash
# VPT, cross-dataset: test the ImageNet model of xd_train_vpt.sh on DATASET.
#   DATA=/path/to/datasets bash scripts/vpt/xd_test_vpt.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_test VPT "$@"

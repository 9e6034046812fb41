#!/usr/bin/env bash
# MMA, cross-dataset: train on all classes of ImageNet.
#   DATA=/path/to/datasets bash scripts/mmadapter/xd_train.sh [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_train MMA imagenet "$@"

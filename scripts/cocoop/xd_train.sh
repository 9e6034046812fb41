#!/usr/bin/env bash
# CoCoOp, cross-dataset: train on all classes of ImageNet.
#   DATA=/path/to/datasets bash scripts/cocoop/xd_train.sh [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_train CoCoOp imagenet "$@"

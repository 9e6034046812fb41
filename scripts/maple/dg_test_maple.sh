#!/usr/bin/env bash
# MaPLe, domain generalization: test the ImageNet model of xd_train_maple.sh on ImageNet's variants.
#   DATA=/path/to/datasets bash scripts/maple/dg_test_maple.sh [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py dg_test MaPLe imagenet "$@"

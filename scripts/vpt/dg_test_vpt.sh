#!/usr/bin/env bash
# VPT, domain generalization: test the ImageNet model of xd_train_vpt.sh on ImageNet's variants.
#   DATA=/path/to/datasets bash scripts/vpt/dg_test_vpt.sh [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py dg_test VPT imagenet "$@"

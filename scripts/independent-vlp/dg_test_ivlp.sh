#!/usr/bin/env bash
# IVLP, domain generalization: test the ImageNet model of xd_train_ivlp.sh on ImageNet's variants.
#   DATA=/path/to/datasets bash scripts/independent-vlp/dg_test_ivlp.sh [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py dg_test IVLP imagenet "$@"

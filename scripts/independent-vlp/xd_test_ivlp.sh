#!/usr/bin/env bash
# IVLP, cross-dataset: test the ImageNet model of xd_train_ivlp.sh on DATASET.
#   DATA=/path/to/datasets bash scripts/independent-vlp/xd_test_ivlp.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_test IVLP "$@"

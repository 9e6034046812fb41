#!/usr/bin/env bash
# CoPrompt_BMIP, cross-dataset: test the ImageNet model of xd_train.sh on DATASET.
#   DATA=/path/to/datasets bash scripts/coprompt_bmip/xd_test.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_test CoPrompt_BMIP "$@"

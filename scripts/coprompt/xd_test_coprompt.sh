#!/usr/bin/env bash
# CoPrompt, cross-dataset: test the ImageNet model of xd_train_coprompt.sh on DATASET.
#   DATA=/path/to/datasets bash scripts/coprompt/xd_test_coprompt.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_test CoPrompt "$@"

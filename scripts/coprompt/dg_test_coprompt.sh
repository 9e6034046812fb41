#!/usr/bin/env bash
# CoPrompt, domain generalization: test the ImageNet model of xd_train_coprompt.sh on ImageNet's variants.
#   DATA=/path/to/datasets bash scripts/coprompt/dg_test_coprompt.sh [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py dg_test CoPrompt imagenet "$@"

#!/usr/bin/env bash
# PromptSRC, domain generalization: test the ImageNet model of xd_train.sh on ImageNet's variants.
#   DATA=/path/to/datasets bash scripts/promptsrc/dg_test.sh [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py dg_test PromptSRC imagenet "$@"

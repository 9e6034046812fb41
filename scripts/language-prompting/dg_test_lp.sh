#!/usr/bin/env bash
# Language prompting, domain generalization: test the ImageNet model of xd_train_lp.sh on ImageNet's variants.
#   DATA=/path/to/datasets bash scripts/language-prompting/dg_test_lp.sh [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py dg_test LanguagePrompting imagenet "$@"

#!/usr/bin/env bash
# Language prompting, cross-dataset: test the ImageNet model of xd_train_lp.sh on DATASET.
#   DATA=/path/to/datasets bash scripts/language-prompting/xd_test_lp.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_test LanguagePrompting "$@"

#!/usr/bin/env bash
# Language prompting, cross-dataset: train on all classes of DATASET, which is imagenet in the field.
#   DATA=/path/to/datasets bash scripts/language-prompting/xd_train_lp.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py xd_train LanguagePrompting "$@"

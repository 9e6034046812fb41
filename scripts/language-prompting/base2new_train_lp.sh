#!/usr/bin/env bash
# Language prompting, base-to-new: train on the base classes and test them.
#   DATA=/path/to/datasets bash scripts/language-prompting/base2new_train_lp.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_train LanguagePrompting "$@"

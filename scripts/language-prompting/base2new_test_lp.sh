#!/usr/bin/env bash
# Language prompting, base-to-new: test the model of base2new_train_lp.sh on the new classes.
#   DATA=/path/to/datasets bash scripts/language-prompting/base2new_test_lp.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_test LanguagePrompting "$@"

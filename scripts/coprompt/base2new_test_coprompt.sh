#!/usr/bin/env bash
# CoPrompt, base-to-new: test the model of base2new_train_coprompt.sh on the new classes.
#   DATA=/path/to/datasets bash scripts/coprompt/base2new_test_coprompt.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_test CoPrompt "$@"

#!/usr/bin/env bash
# IVLP, base-to-new: test the model of base2new_train_ivlp.sh on the new classes.
#   DATA=/path/to/datasets bash scripts/independent-vlp/base2new_test_ivlp.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_test IVLP "$@"

#!/usr/bin/env bash
# IVLP, base-to-new: train on the base classes and test them.
#   DATA=/path/to/datasets bash scripts/independent-vlp/base2new_train_ivlp.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_train IVLP "$@"

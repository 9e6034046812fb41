#!/usr/bin/env bash
# ProDA, base-to-new: train on the base classes and test them.
#   DATA=/path/to/datasets bash scripts/proda/base2new_train_proda.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_train ProDA "$@"

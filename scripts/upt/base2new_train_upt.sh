#!/usr/bin/env bash
# UPT, base-to-new: train on the base classes and test them.
#   DATA=/path/to/datasets bash scripts/upt/base2new_train_upt.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_train UPT "$@"

#!/usr/bin/env bash
# VPT, base-to-new: train on the base classes and test them.
#   DATA=/path/to/datasets bash scripts/vpt/base2new_train_vpt.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_train VPT "$@"

#!/usr/bin/env bash
# HiCroPL, base-to-new: train on the base classes and test them.
#   DATA=/path/to/datasets bash scripts/hicropl/base2new_train_hicropl.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_train HiCroPL "$@"

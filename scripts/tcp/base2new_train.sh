#!/usr/bin/env bash
# TCP, base-to-new: train on the base classes, and test the model on the new ones; without arguments all data sets, three
# seeds each, as the authors' script.
#   DATA=/path/to/datasets bash scripts/tcp/base2new_train.sh [DATASET [SEED] [CFG]]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 1 ] || exec "$PYTHON" scripts/reproduce.py base2new --methods TCP ${DATA:+--data "$DATA"}
exec "$PYTHON" scripts/launch.py base2new TCP "$@"

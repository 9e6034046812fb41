#!/usr/bin/env bash
# BMIP, base-to-new: train on the base classes and test them.
#   DATA=/path/to/datasets bash scripts/bmip/base2new_train.sh DATASET [SEED] [CFG]
# Without DATASET and DATA: a demonstration on built-in data, from training to the table.
set -euo pipefail
source "$(dirname "$0")/../env.sh"
protocol=base2new_train
if [ -z "${DATA:-}" ] && [[ "${1:---}" == --* ]]; then
    protocol=base2new
    set -- digits "$@"
fi
exec "$PYTHON" scripts/launch.py "$protocol" BMIP "$@"

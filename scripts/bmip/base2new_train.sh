#!/usr/bin/env bash
# BMIP, base-to-new: train on the base classes and test them.
#   DATA=/path/to/datasets bash scripts/bmip/base2new_train.sh DATASET [SEED] [CFG]
# Without arguments and DATA: a demonstration on built-in data, from training to the table.
set -euo pipefail
source "$(dirname "$0")/../env.sh"
if [ $# -eq 0 ] && [ -z "${DATA:-}" ]; then set -- digits; protocol=base2new; else protocol=base2new_train; fi
exec "$PYTHON" scripts/launch.py "$protocol" BMIP "$@"

#!/usr/bin/env bash
# MMA, base-to-new: test the model of base2new_train.sh on the new classes.
#   DATA=/path/to/datasets bash scripts/mmadapter/base2new_test.sh DATASET [SEED] [CFG] [LOADEP]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
# The field's fourth argument, an epoch, is a flag of the launcher.
[[ "${4:-}" =~ ^[0-9]+$ ]] && set -- "${@:1:3}" --load-epoch "$4" "${@:5}"
exec "$PYTHON" scripts/launch.py base2new_test MMA "$@"

#!/usr/bin/env bash
# MMA, cross-dataset: test the ImageNet model of xd_train.sh on DATASET.
#   DATA=/path/to/datasets bash scripts/mmadapter/xd_test.sh DATASET [SEED] [CFG] [LOADEP]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
# The field's fourth argument, an epoch, is a flag of the launcher.
[[ "${4:-}" =~ ^[0-9]+$ ]] && set -- "${@:1:3}" --load-epoch "$4" "${@:5}"
exec "$PYTHON" scripts/launch.py xd_test MMA "$@"

#!/usr/bin/env bash
# BMIP, base-to-new: train on the base classes and test them.
#   DATA=/path/to/datasets bash scripts/bmip/base2new_train.sh DATASET [SEED] [CFG]
# Without DATASET and DATA: a demonstration on built-in data, from training to a table and a page of several methods.
set -euo pipefail
source "$(dirname "$0")/../env.sh"
if [ -n "${DATA:-}" ] || [[ "${1:---}" != --* ]]; then
    exec "$PYTHON" scripts/launch.py base2new_train BMIP "$@"
fi
exec "$PYTHON" scripts/compare.py icons 1 "ZeroshotCLIP MaPLe BMIP CoPrompt_BMIP" "$@"

#!/usr/bin/env bash
# ProGrad, base-to-new as published (ResNet-50, 4 shots): train on the base classes, with seeds 1, 2 and 3.
#   DATA=/path/to/datasets bash scripts/prograd/base2new_train_prograd.sh DATASET
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 1 ] || { echo "error: $# arguments; give DATASET" >&2; exit 2; }
CFG=rn50_ep100
[ "$1" != imagenet ] || CFG=rn50_ep50
for SEED in 1 2 3; do
    "$PYTHON" scripts/launch.py base2new_train ProGrad "$1" "$SEED" "$CFG" --shots 4 "${@:2}"
done

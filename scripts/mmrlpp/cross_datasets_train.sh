#!/usr/bin/env bash
# MMRL++, cross-dataset: train on all classes of ImageNet; seeds 1, 2, 3.
#   DATA=/path/to/datasets bash scripts/mmrlpp/cross_datasets_train.sh
set -euo pipefail
source "$(dirname "$0")/../env.sh"
for SEED in 1 2 3; do
    "$PYTHON" scripts/launch.py xd_train MMRLpp imagenet "$SEED" "$@"
done

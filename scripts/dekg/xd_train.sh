#!/usr/bin/env bash
# DeKg, few-shot (as their xd_train.sh is): train on 4 images of every class of eleven data sets; seeds 1, 2, 3.
#   DATA=/path/to/datasets bash scripts/dekg/xd_train.sh W1 W2
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 2 ] || { echo "error: $# arguments; give W1 W2" >&2; exit 2; }
for DATASET in dtd eurosat fgvc_aircraft food101 oxford_flowers oxford_pets stanford_cars ucf101 caltech101 sun397 imagenet; do
    "$PYTHON" scripts/launch.py few_shot DeKg "$DATASET" --shots 4 "${@:3}" TRAINER.COOP.W "$1" LOSS.WEIGHT "$2"
done

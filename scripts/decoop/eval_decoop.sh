#!/usr/bin/env bash
# DeCoOp: train on the base classes of all eleven data sets, and test on all classes in one pass, with seeds 1 to 5.
#   DATA=/path/to/datasets bash scripts/decoop/eval_decoop.sh GPU ARCHITECTURE
# GPU is a number, ARCHITECTURE is Vit-B16 or Vit-B32. Results are below output/, where those of all methods are.
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 2 ] || { echo "error: $# arguments; give GPU ARCHITECTURE" >&2; exit 2; }
export CUDA_VISIBLE_DEVICES=$1
CFG=$(tr A-Z- a-z_ <<< "$2")
for DATASET in eurosat food101 dtd fgvc_aircraft oxford_flowers oxford_pets stanford_cars ucf101 caltech101 sun397 imagenet; do
    for SEED in 1 2 3 4 5; do
        "$PYTHON" scripts/launch.py open_world DeCoOp "$DATASET" "$SEED" "$CFG" "${@:3}"
    done
done

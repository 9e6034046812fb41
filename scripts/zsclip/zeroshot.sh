#!/usr/bin/env bash
# Zero-shot CLIP on all classes; CFG is rn50, rn101, vit_b32 or vit_b16.
#   DATA=/path/to/datasets bash scripts/zsclip/zeroshot.sh DATASET CFG
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 2 ] || { echo "error: $# arguments; give DATASET CFG" >&2; exit 2; }
exec "$PYTHON" scripts/launch.py zeroshot ZeroshotCLIP "$1" --cfg "$2" "${@:3}"

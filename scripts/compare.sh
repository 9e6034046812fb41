#!/usr/bin/env bash
# Train and test the methods side by side, and print their table.
#   DATA=/path/to/datasets bash scripts/compare.sh DATASET ["1 2 3"] ["CoOp MaPLe BMIP"]
# Without arguments: built-in data, the small CLIP, three seeds, all methods.
set -euo pipefail
source "$(dirname "$0")/env.sh"
exec "$PYTHON" scripts/compare.py "$@"

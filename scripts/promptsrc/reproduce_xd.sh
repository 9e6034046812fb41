#!/usr/bin/env bash
# PromptSRC, cross-dataset: test released weights, WEIGHTS/seedSEED, on DATASET.
#   DATA=/path/to/datasets bash scripts/promptsrc/reproduce_xd.sh DATASET SEED WEIGHTS
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 3 ] || { echo "error: $# arguments; give DATASET SEED WEIGHTS" >&2; exit 2; }
exec "$PYTHON" scripts/launch.py reproduce_xd PromptSRC "$1" "$2" --weights "$3" "${@:4}"

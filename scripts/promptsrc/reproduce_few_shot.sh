#!/usr/bin/env bash
# PromptSRC, few shots: test released weights, WEIGHTS/SHOTSshot/seedSEED; seeds 1, 2, 3.
#   DATA=/path/to/datasets bash scripts/promptsrc/reproduce_few_shot.sh DATASET SHOTS WEIGHTS
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 3 ] || { echo "error: $# arguments; give DATASET SHOTS WEIGHTS" >&2; exit 2; }
exec "$PYTHON" scripts/launch.py reproduce_few_shot PromptSRC "$1" --shots "$2" --weights "$3/$2shot" "${@:4}"

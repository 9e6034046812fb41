#!/usr/bin/env bash
# PromptSRC, base-to-new: test released weights, WEIGHTS/base/seedSEED, on the base and on the new classes.
#   DATA=/path/to/datasets bash scripts/promptsrc/reproduce_base2novel_setting.sh DATASET SEED WEIGHTS
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 3 ] || { echo "error: $# arguments; give DATASET SEED WEIGHTS" >&2; exit 2; }
exec "$PYTHON" scripts/launch.py reproduce PromptSRC "$1" "$2" --weights "$3" "${@:4}"

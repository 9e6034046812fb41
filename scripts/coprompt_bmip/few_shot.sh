#!/usr/bin/env bash
# CoPrompt_BMIP, few shots: train on SHOTS images of every class, and test them; seeds 1, 2, 3.
#   DATA=/path/to/datasets bash scripts/coprompt_bmip/few_shot.sh DATASET SHOTS
set -euo pipefail
[ $# -ge 2 ] || { echo "error: $# arguments; give DATASET SHOTS" >&2; exit 2; }
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py few_shot CoPrompt_BMIP "$1" --shots "$2" "${@:3}"

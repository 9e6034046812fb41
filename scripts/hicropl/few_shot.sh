#!/usr/bin/env bash
# HiCroPL, few shots: train on SHOTS images of every class, and test them; seeds 1, 2, 3.
#   DATA=/path/to/datasets bash scripts/hicropl/few_shot.sh DATASET SHOTS
set -euo pipefail
source "$(dirname "$0")/../env.sh"
[ $# -ge 2 ] || { echo "error: $# arguments; give DATASET SHOTS" >&2; exit 2; }
exec "$PYTHON" scripts/launch.py few_shot HiCroPL "$1" --shots "$2" "${@:3}"

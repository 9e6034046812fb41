#!/usr/bin/env bash
# VPT, open world: train on the base classes, and test that model on all classes in one pass.
#   DATA=/path/to/datasets bash scripts/vpt/open_world_vpt.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py open_world VPT "$@"

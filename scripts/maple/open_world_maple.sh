#!/usr/bin/env bash
# MaPLe, open world: train on the base classes, and test that model on all classes in one pass.
#   DATA=/path/to/datasets bash scripts/maple/open_world_maple.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py open_world MaPLe "$@"

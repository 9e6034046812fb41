#!/usr/bin/env bash
# IVLP, open world: train on the base classes, and test that model on all classes in one pass.
#   DATA=/path/to/datasets bash scripts/independent-vlp/open_world_ivlp.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py open_world IVLP "$@"

#!/usr/bin/env bash
# CoPrompt, open world: train on the base classes, and test that model on all classes in one pass.
#   DATA=/path/to/datasets bash scripts/coprompt/open_world_coprompt.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py open_world CoPrompt "$@"

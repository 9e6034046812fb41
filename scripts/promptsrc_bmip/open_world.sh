#!/usr/bin/env bash
# PromptSRC_BMIP, open world: train on the base classes, and test that model on all classes in one pass.
#   DATA=/path/to/datasets bash scripts/promptsrc_bmip/open_world.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py open_world PromptSRC_BMIP "$@"

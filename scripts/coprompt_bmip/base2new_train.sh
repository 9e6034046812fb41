#!/usr/bin/env bash
# CoPrompt_BMIP, base-to-new: train on the base classes and test them.
#   DATA=/path/to/datasets bash scripts/coprompt_bmip/base2new_train.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py base2new_train CoPrompt_BMIP "$@"

#!/usr/bin/env bash
# Language prompting, open world: train on the base classes, and test that model on all classes in one pass.
#   DATA=/path/to/datasets bash scripts/language-prompting/open_world_lp.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py open_world LanguagePrompting "$@"

#!/usr/bin/env bash
# BMIP, base-to-new: train on the base classes and test them.
#   DATA=/path/to/datasets bash scripts/bmip/base2new_train.sh DATASET [SEED] [CFG] [--opts KEY VALUE ...]
set -euo pipefail
exec "${PYTHON:-python}" "$(dirname "$0")/run.py" --script "$0" base2new_train BMIP "$@"

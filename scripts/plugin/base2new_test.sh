#!/usr/bin/env bash
# BMIP, base-to-new: test the model of base2new_train.sh on the new classes.
#   DATA=/path/to/datasets bash scripts/bmip/base2new_test.sh DATASET [SEED] [CFG] [--opts KEY VALUE ...]
set -euo pipefail
exec "${PYTHON:-python}" "$(dirname "$0")/run.py" --script "$0" base2new_test BMIP "$@"

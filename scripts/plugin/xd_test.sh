#!/usr/bin/env bash
# BMIP, cross-dataset: test the model of xd_train.sh on all classes of another data set.
#   DATA=/path/to/datasets bash scripts/bmip/xd_test.sh DATASET [SEED] [CFG] [--opts KEY VALUE ...]
set -euo pipefail
exec "${PYTHON:-python}" "$(dirname "$0")/run.py" --script "$0" xd_test BMIP "$@"

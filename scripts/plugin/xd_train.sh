#!/usr/bin/env bash
# BMIP, cross-dataset: train on all classes of DATASET, which is imagenet in the field.
#   DATA=/path/to/datasets bash scripts/bmip/xd_train.sh DATASET [SEED] [CFG] [--opts KEY VALUE ...]
set -euo pipefail
exec "${PYTHON:-python}" "$(dirname "$0")/run.py" --script "$0" xd_train BMIP "$@"

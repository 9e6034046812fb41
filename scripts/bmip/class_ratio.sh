#!/usr/bin/env bash
# BMIP, class ratios: train on the base classes, and test that model on as many classes, some of which are base classes.
#   DATA=/path/to/datasets bash scripts/bmip/class_ratio.sh DATASET [SEED] [CFG]
set -euo pipefail
source "$(dirname "$0")/../env.sh"
exec "$PYTHON" scripts/launch.py class_ratio BMIP "$@"

#!/usr/bin/env bash
# BMIP, beside trainers of this checkout, base-to-new, with a table.
#   DATA=/path/to/datasets bash scripts/bmip/compare.sh DATASET "SEEDS" "TRAINER TRAINER:CFG ..." [--opts KEY VALUE ...]
set -euo pipefail
exec "${PYTHON:-python}" "$(dirname "$0")/run.py" --script "$0" compare BMIP "$@"

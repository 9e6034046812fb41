#!/usr/bin/env bash
# The whole test suite, formatter and linter included. Arguments go to pytest.
#   bash scripts/test.sh [PYTEST ARGUMENTS]
# Processes share the test files, one for each core and four at most (each takes 2 GB). `-n 0`, or naming files of
# tests/, runs all in one process.
set -euo pipefail
REQUIREMENTS=requirements-dev.txt
source "$(dirname "$0")/env.sh"
"$PYTHON" -m ruff format --check .
"$PYTHON" -m ruff check .
SHARED=(-n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder)
[[ " $*" != *" tests/"* ]] || SHARED=(-n 0)
"$PYTHON" -m pytest -q "${SHARED[@]}" "$@"

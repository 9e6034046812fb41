#!/usr/bin/env bash
# The whole test suite, formatter and linter included. Arguments go to pytest.
#   bash scripts/test.sh [PYTEST ARGUMENTS]
set -euo pipefail
REQUIREMENTS=requirements-dev.txt
source "$(dirname "$0")/env.sh"
"$PYTHON" -m ruff format --check .
"$PYTHON" -m ruff check .
"$PYTHON" -m pytest -q "$@"

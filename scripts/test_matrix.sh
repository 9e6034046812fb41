#!/usr/bin/env bash
# The whole test suite with several versions of Python and PyTorch, each pair in a fresh environment.
#   bash scripts/test_matrix.sh [--keep] [--folder FOLDER] [PYTHON:TORCH ...] [-- PYTEST ARGUMENTS]
# PYTHON is a version, whose pythonX.Y is on the PATH, or an interpreter's path. The torchvision is the one that
# belongs to the TORCH; everything else is the newest that requirements-dev.txt allows. The status is 1 if a pair
# failed; a pair whose interpreter or packages are not to be had is no failure.
#
# Everything is made in a new folder inside FOLDER (that of temporary files): an environment of several GB, which is
# removed after its tests unless --keep is given, and the log of each pair, which stays.
set -uo pipefail

PAIRS=()
KEEP=
FOLDER=${TMPDIR:-/tmp}
while [ $# -gt 0 ]; do
    case $1 in
        --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --keep) KEEP=1 ;;
        --folder) FOLDER=${2:?--folder needs a folder}; shift ;;
        --) shift; break ;;
        *:*) PAIRS+=("$1") ;;
        *) echo "error: $1 is no PYTHON:TORCH; write for example 3.11:2.14.1" >&2; exit 2 ;;
    esac
    shift
done
[ ${#PAIRS[@]} -gt 0 ] || PAIRS=(3.9:2.6.0 3.11:2.14.1 3.13:2.15.0)
FOLDER=$(mkdir -p "$FOLDER" && cd "$FOLDER" && mktemp -d "$PWD/test_matrix.XXXXXX") || exit 2

remove_unless_kept() {
    [ -n "$KEEP" ] || rm -rf "$@"
}
trap 'remove_unless_kept "$FOLDER/code" "$FOLDER/environments"' EXIT

# The tests run on a copy: neither edits during the run nor a .venv, which the shell scripts prefer, reach them.
cd "$(dirname "$0")/.." && mkdir "$FOLDER/code" || exit 2
git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$FOLDER/code" || exit 2
cd "$FOLDER/code" || exit 2

# test_pair PAIR ENVIRONMENT LOG [PYTEST ARGUMENTS]: leaves its columns in $versions, $outcome and $seconds; the status
# is 1 if the pair failed.
test_pair() {
    local python=${1%:*} torch=${1##*:} environment=$2 log=$3
    shift 3
    versions= outcome= seconds=
    [[ $python == */* ]] || python=python$python
    if ! "$python" --version > "$log" 2>&1; then
        outcome="no $python"
        return
    fi
    if ! { "$python" -m venv "$environment" &&
        "$environment/bin/python" -m pip install -r requirements-dev.txt "torch==$torch"; } >> "$log" 2>&1; then
        outcome="not to be had"
        grep -qE "No matching distribution|ResolutionImpossible" "$log" && ! grep -q Retrying "$log" && return
        outcome="failed to install"
        return 1
    fi
    versions=$("$environment/bin/python" - <<'PYTHON'
import platform
from importlib.metadata import version
print("Python", platform.python_version(), *(f"{name} {version(name)}" for name in ("torch", "torchvision", "numpy")))
PYTHON
    )
    local start=$SECONDS
    "$environment/bin/python" -m pytest -q "$@" 2>&1 | tee -a "$log"
    local status=${PIPESTATUS[0]}
    seconds=$((SECONDS - start))
    # The line that reads "1 failed, 2 passed in 3.45s".
    outcome=$(tail -n 1 "$log" | sed -E 's/ in [0-9.]+s.*//')
    [ "$status" -eq 0 ] || outcome="status $status: $outcome"
    return $((status != 0))
}

ROWS=()
STATUS=0
for pair in "${PAIRS[@]}"; do
    name=${pair//[^A-Za-z0-9.]/-}
    echo "$pair ..."
    test_pair "$pair" "$FOLDER/environments/$name" "$FOLDER/$name.log" "$@" || STATUS=1
    remove_unless_kept "$FOLDER/environments"
    ROWS+=("| $pair | $versions | $outcome | $seconds |")
done
echo
echo "| pair | versions | outcome | seconds |"
echo "|------|----------|---------|---------|"
printf '%s\n' "${ROWS[@]}"
echo
echo "Logs: $FOLDER"
exit $STATUS

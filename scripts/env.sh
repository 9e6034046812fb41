# Sourced by the scripts: go to the repository's root, and find or make the Python to run with, $PYTHON.
#
# A complete .venv comes first, then $PYTHON (python3) if it has the packages. Otherwise .venv is made from the file
# named in $REQUIREMENTS (requirements.txt), which is noted there only when the installation came to its end.
# `--help` prints the first lines of the script that sources this one, and needs none.

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
    echo "$0 is sourced by the other scripts, and does nothing by itself; they answer --help." >&2
    exit 2
fi
if [[ " $* " == *" --help "* ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    command=$(grep -o 'scripts/[a-z_]*\.py' "$0" | head -n 1) && echo "All flags: python $command --help"
    exit 0
fi
if [ -n "${DATA:-}" ]; then
    [ -d "$DATA" ] || { echo "error: DATA is $DATA, which is no folder" >&2; exit 2; }
    DATA=$(cd "$DATA" && pwd)
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
REQUIREMENTS=${REQUIREMENTS:-requirements.txt}
PYTHON=${PYTHON:-python3}

_has_packages() {
    "$1" - "$REQUIREMENTS" <<'PYTHON' 2>/dev/null
import os, sys
from importlib.util import find_spec
wanted = ["torch", "torchvision", "clip", "pkg_resources", "yacs", "tabulate", "tqdm", "sklearn", "tensorboard"]
wanted += ["matplotlib", "qtawesome"]
wanted += ["pytest", "xdist", "ruff", "nbclient", "ipykernel"] if "dev" in sys.argv[1] else []
# OpenAI's clip has the module, other packages of that name have not; to import it would take seconds.
folders = find_spec("clip").submodule_search_locations if find_spec("clip") else []
has_clip = any(os.path.isfile(os.path.join(folder, "model.py")) for folder in folders)
sys.exit(not has_clip or any(find_spec(name) is None for name in wanted))
PYTHON
}

_installed() {
    [ -f ".venv/$1" ] && cat requirements.txt "$1" | cmp -s - ".venv/$1"
}

if ! _installed "$REQUIREMENTS" && ! _installed requirements-dev.txt; then
    if ! _has_packages "$PYTHON"; then
        echo "Preparing .venv from $REQUIREMENTS (several GB with PyTorch; a few minutes) ..."
        [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv || exit 2
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$REQUIREMENTS" || exit 2
        cat requirements.txt "$REQUIREMENTS" > ".venv/$REQUIREMENTS"
        PYTHON=.venv/bin/python
    fi
else
    PYTHON=.venv/bin/python
fi
export DATA PYTHON

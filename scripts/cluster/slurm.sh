#!/usr/bin/env bash
# A command with many runs on all nodes of a Slurm allocation, by Ray. From the repository's root:
#   sbatch --nodes 4 --gpus-per-node 8 scripts/cluster/slurm.sh scripts/reproduce.py all --data $DATA
# Cancelled, preempted, requeued or out of time, it goes on where it stopped when it starts again. All options of sbatch
# work. The Python is that of .venv, else $PYTHON (python3), with Ray, on all nodes; nothing is installed.
#SBATCH --job-name=bmip
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --requeue
#SBATCH --open-mode=append
# Whole nodes, because Ray does not start beside another Ray of a node, and stops all of the user's there if it fails.
set -euo pipefail
if [[ " $* " == *" --help "* ]]; then
    sed -n '2,/^#SBATCH/{/^#SBATCH/d;s/^# \{0,1\}//p}' "$0"
    exit 0
fi
fail() { echo "error: $*" >&2; exit 2; }
[ -n "${SLURM_JOB_ID:-}" ] || fail "this is no job of Slurm; give the script to sbatch (bash $0 --help)"
[ $# -gt 0 ] || fail "no command is given, such as scripts/reproduce.py all; add it after the script"
[ -f "$1" ] || fail "$PWD has no $1; submit from the repository's root, or with sbatch --chdir"
[ -x .venv/bin/python ] && PYTHON=$PWD/.venv/bin/python
PYTHON=$(command -v "${PYTHON:-python3}") || fail "there is no Python ${PYTHON:-python3}; set PYTHON to one with Ray"
export PATH="$(dirname "$PYTHON"):$PATH"
command -v ray >/dev/null || fail "$PYTHON has no Ray; on a login node: $PYTHON -m pip install -r requirements-ray.txt"

# Of this job alone: its port, and a token without which nobody else on the cluster can run code in it.
export ADDRESS=$SLURMD_NODENAME:$((20000 + SLURM_JOB_ID % 10000))
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0
# Seconds: that many nodes read Ray's files at once from one file system.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600 RAY_raylet_start_wait_time_s=600
STATUS=$(mktemp)
export STATUS
trap 'rm -f "$STATUS"' EXIT

on_node() {
    # Tasks exchange no data, so that Ray needs little memory for it.
    exec ray symmetric-run --address "$ADDRESS" --min-nodes "$SLURM_NNODES" --object-store-memory=100000000 \
        ${SLURM_GPUS_ON_NODE:+--num-gpus=$SLURM_GPUS_ON_NODE} -- bash -c 'on_head "$@"' bash "$@"
}
on_head() {
    local status=0
    "$@" || status=$?
    echo $status > "$STATUS"
    # Ends Ray on all nodes at once, where its own end takes a minute, and may turn into a failure.
    scancel --signal=KILL "$SLURM_JOB_ID.$SLURM_STEP_ID"
}
export -f on_node on_head
srun --ntasks-per-node=1 --export=ALL --cpu-bind=none bash -c 'on_node "$@"' bash \
    "$PYTHON" "$1" --engine ray --address "$ADDRESS" "${@:2}" || true
[ -s "$STATUS" ] || fail "Ray has not started; its messages are above"
exit "$(cat "$STATUS")"

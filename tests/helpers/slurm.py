"""Slurm of this host, in a folder: a controller and nodes, each a host of its own by its namespaces.

Nodes have a name, an address, processes and a Ray of their own; they share files. Their GPUs are copies of /dev/null.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "ip", "unshare", "nsenter", "setpriv")
# It and all that it starts end with this process.
UNSHARE = [
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--net",
    "--uts",
    "--pid",
    "--mount",
    "--fork",
    "--mount-proc",
    "--kill-child",
]
NETWORK = "10.213.77"
CONFIGURATION = """
ClusterName={name}
SlurmctldHost={name}({network}.254)
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/cgroup
TaskPlugin=task/affinity
SelectType=select/cons_tres
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=2
GresTypes=gpu
NodeName={name}-[1-{nodes}] NodeAddr={network}.[1-{nodes}] CPUs={cpus} Gres=gpu:{gpus}
PartitionName=all Nodes=ALL Default=YES
"""
CGROUPS = "CgroupPlugin=cgroup/v1\nCgroupMountpoint={folder}/cgroup\nCgroupAutomount=yes\n"
# For all scripts: $NAME, $FOLDER and $NETWORK; of a node, $NODE is its number.
CONTROLLER = """
hostname $NAME
ip link set lo up
ip link add nodes type bridge
ip address add $NETWORK.254/24 dev nodes
ip link set nodes up
mount --bind $FOLDER/hosts /etc/hosts
munged --force --key-file=$FOLDER/munge/key --socket=$FOLDER/munge/socket --pid-file=$FOLDER/munge/pid \
    --log-file=$FOLDER/munge/log --seed-file=$FOLDER/munge/seed
exec slurmctld -D
"""
JOIN = """
ip link add node$NODE type veth peer name host$NODE netns $PROCESS
ip link set node$NODE master nodes
ip link set node$NODE up
"""
ON_NODE = """
hostname $NAME-$NODE
ip link set lo up
until ip link show host$NODE >/dev/null 2>&1; do sleep 0.1; done
ip address add $NETWORK.$NODE/24 dev host$NODE
ip link set host$NODE up
mkdir -p /tmp/ray
mount --bind $FOLDER/ray-$NODE /tmp/ray
# This shell stays, and buries what has lost its parent.
slurmd -D &
wait
"""
# The kernel keeps groups of processes, which outlive their processes.
LEAVE = """
mkdir $FOLDER/groups
mount -t cgroup -o freezer none $FOLDER/groups
find $FOLDER/groups -depth -type d -path "*/slurm_$NAME-*" -exec rmdir {} +
"""


def obstacle() -> str:
    """Why there can be no Slurm here; empty if there can."""
    if absent := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"needs slurm-wlm and munge, for {', '.join(absent)}"
    if os.geteuid():
        return "needs root, for namespaces"
    test = subprocess.run([*UNSHARE, "ip", "link", "add", "nodes", "type", "bridge"], capture_output=True, text=True)
    return f"needs namespaces, bridges among them: {test.stderr.strip()}" if test.returncode else ""


class Slurm:
    """As many nodes as wanted, each with so many GPUs."""

    def __init__(self, folder: Path, nodes: int, gpus: int):
        self.folder = folder
        self.name = f"test{os.getpid()}"
        self.environment = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf"}
        self.environment |= {"NAME": self.name, "FOLDER": str(folder), "NETWORK": NETWORK}
        names = dict(name=self.name, folder=folder, network=NETWORK, nodes=nodes, gpus=gpus, cpus=os.cpu_count())
        for name in ("munge", "state", *(f"ray-{node + 1}" for node in range(nodes))):
            (folder / name).mkdir()
        for gpu in range(gpus):
            os.mknod(folder / f"gpu{gpu}", 0o20666, os.stat("/dev/null").st_rdev)
        (folder / "slurm.conf").write_text(CONFIGURATION.format(**names))
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{gpus - 1}]\n")
        (folder / "cgroup.conf").write_text(CGROUPS.format(**names))
        hosts = [f"{NETWORK}.{node + 1} {self.name}-{node + 1}\n" for node in range(nodes)]
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{NETWORK}.254 {self.name}\n{''.join(hosts)}")
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self._processes: list[psutil.Process] = []
        try:
            self._controller = self._namespaces(UNSHARE, CONTROLLER, "controller")
            self._until(lambda: "UP" in self.call("scontrol", "ping", check=False), "the controller answers")
            for node in range(1, nodes + 1):
                process = self._namespaces([*self._inside(), *UNSHARE], ON_NODE, f"node{node}", NODE=str(node))
                self.call("bash", "-euc", JOIN, NODE=str(node), PROCESS=str(process.pid))
            self._until(
                lambda: self.call("sinfo", "-ho", "%T %D").split() == ["idle", str(nodes)], "all nodes are idle"
            )
        except BaseException:
            self.close()
            raise

    def _namespaces(self, command: list[str], script: str, log: str, **environment: str) -> psutil.Process:
        """Start a host; gives its first process, with which all others end."""
        words = [*command, "bash", "-euc", script]
        with open(self.folder / f"{log}.log", "w") as file:
            everything = {**self.environment, **environment}
            started = psutil.Popen(words, env=everything, cwd=self.folder, stdout=file, stderr=file)
        self._until(lambda: started.poll() is not None or started.children(), f"{log} starts")
        self._processes = [*started.children(), started, *self._processes]
        return self._processes[0]

    def _inside(self) -> list[str]:
        """Words before a command, for it to be one of the controller."""
        return ["nsenter", "--target", str(self._controller.pid), "--net", "--mount", "--uts", "--wdns=/"]

    def _until(self, condition, text: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = [path.read_text()[-2000:] for path in self.folder.glob("*.log")]
                raise TimeoutError("\n".join([f"waited in vain until {text}", *logs]))
            time.sleep(0.2)

    def call(self, *command: str, check: bool = True, **environment: str) -> str:
        """What a command on the controller prints."""
        everything = {**self.environment, **environment}
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        done = subprocess.run([*self._inside(), *command], env=everything, **pipes)
        assert not check or done.returncode == 0, f"{shlex.join(command)}: {done.stdout}"
        return done.stdout

    def facts(self, job: str) -> dict[str, str]:
        """Of a job, as `scontrol show job` has them."""
        words = self.call("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, job: str, seconds: float = 900) -> dict[str, str]:
        """Until a job has ended; gives its facts."""
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self._until(lambda: self.facts(job)["JobState"] in ends, f"job {job} ends", seconds)
        return self.facts(job)

    def close(self) -> None:
        """End everything."""
        for process in [process for process in self._processes if process.is_running()]:
            process.kill()
        for process in self._processes:
            process.wait()
        subprocess.run([*UNSHARE, "bash", "-euc", LEAVE], env=self.environment, check=True)

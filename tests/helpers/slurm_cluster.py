"""A real SLURM on this machine: a controller and three nodes (cpu1; gpu1 and gpu2 with pretend GPUs), no systemd.

Debian's packages slurm-wlm and munge, as root. The job steps that Snakemake starts drop SLURM_CONF, so that the
configuration must lie in /etc/slurm: a machine that has one of its own is left alone.
"""

import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "munged")
ETC = Path("/etc/slurm")
FILES = ("slurm.conf", "gres.conf", "cgroup.conf")
NODES = {"cpu1": 17001, "gpu1": 17002, "gpu2": 17003}
DAEMONS = ("slurmctld", *(f"slurmd.{node}" for node in NODES), "munged")
GPUS = 1  # a node: two groups of roles need both

SLURM_CONF = """\
ClusterName=personascope
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock
CryptoType=crypto/munge
SlurmctldPort=16817
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
# A canceled job's process group is killed as a whole, as on clusters with cgroups.
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=5,batch_sched_delay=1,sched_min_interval=200000
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=3600
KillWait=5
SlurmctldTimeout=60
SlurmdTimeout=15
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
OverTimeLimit=0
UnkillableStepTimeout=30
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
{nodes}
PartitionName=cpu Nodes=cpu1 Default=YES MaxTime=INFINITE DefMemPerCPU=500 State=UP PriorityTier=10
PartitionName=gpu Nodes=gpu1,gpu2 MaxTime=INFINITE DefMemPerCPU=500 State=UP PriorityTier=10
PartitionName=gpu_hi Nodes=gpu1,gpu2 MaxTime=INFINITE DefMemPerCPU=500 State=UP PriorityTier=50 PreemptMode=OFF
"""
CGROUP_CONF = """\
CgroupAutomount=no
CgroupPlugin=cgroup/v1
ConstrainCores=no
ConstrainRAMSpace=no
ConstrainDevices=no
"""


def why_not() -> str:
    """The reason why no SLURM can be started here, or nothing."""
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        return f"{missing[0]} is not installed (Debian: slurm-wlm, munge)"
    if os.geteuid() != 0:
        return "starting SLURM's daemons takes root"
    if (ETC / "slurm.conf").exists() and not (ETC / "slurm.conf").is_symlink():
        return f"this machine has a SLURM of its own ({ETC}/slurm.conf)"
    return ""


def wait_until(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    """The first true value of the condition; TimeoutError says what did not come."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)
    return value


class Cluster:
    """A running SLURM; its daemons and files are in `folder`. A machine has room for one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ETC.mkdir(exist_ok=True)
        self.lock = (ETC / "personascope.lock").open("w")  # the kernel releases it when this process ends
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError("another run of these tests has a SLURM on this machine: wait for its end") from None

    def up(self) -> None:
        for name in ("state", "log", "run", "dev", "munge", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            (self.folder / name).chmod(0o755)
        self._configure()
        self._start_munge()
        self.run("slurmctld")
        for node in NODES:
            self.start_node(node)
        wait_until(lambda: self.node_states() == dict.fromkeys(NODES, "idle"), 30, "the nodes become idle")

    def _configure(self) -> None:
        host = socket.gethostname().split(".")[0]
        for number in range(GPUS):
            device = self.folder / f"dev/nvidia{number}"
            if not device.exists():
                os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        shape = "CPUs=32 Sockets=1 CoresPerSocket=32 ThreadsPerCore=1 RealMemory=128000 State=UNKNOWN"
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} {shape}"
            + (f" Gres=gpu:{GPUS}" if node.startswith("gpu") else "")
            for node, port in NODES.items()
        ]
        texts = {
            "slurm.conf": SLURM_CONF.format(host=host, folder=self.folder, nodes="\n".join(nodes)),
            "gres.conf": f"NodeName=gpu[1-2] Name=gpu File={self.folder}/dev/nvidia0\n",
            "cgroup.conf": CGROUP_CONF,
        }
        for name in FILES:
            (self.folder / name).write_text(texts[name])
            (ETC / name).unlink(missing_ok=True)
            (ETC / name).symlink_to(self.folder / name)

    def _start_munge(self) -> None:
        key, folder = self.folder / "munge.key", self.folder / "munge"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        places = {"key-file": key, "socket": folder / "munge.sock", "pid-file": self.folder / "run/munged.pid"}
        places |= {"log-file": self.folder / "log/munged.log", "seed-file": folder / "seed"}
        self.run("munged", "--force", *(f"--{name}={path}" for name, path in places.items()))

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def start_node(self, node: str) -> None:
        self.run("slurmd", "-N", node)

    def kill_node(self, node: str) -> None:
        """Kill the node's daemon and all that runs there, as when the machine loses power."""
        daemon = psutil.Process(int((self.folder / f"run/slurmd.{node}.pid").read_text()))
        steps = [process for process in psutil.process_iter() if _command(process).startswith("slurmstepd")]
        victims = [step for step in steps if self._on(step, node)]
        daemon.send_signal(signal.SIGKILL)
        for step in victims:
            for process in [*step.children(recursive=True), step]:
                _kill(process)

    def _on(self, step: psutil.Process, node: str) -> bool:
        """Whether a slurmstepd serves a job on the node: `slurmstepd: [12.batch]` names job and step only."""
        job = _command(step).split("[")[-1].split(".")[0]
        return self.run("squeue", "-h", "-j", job, "-o", "%N", check=False).strip() == node

    def node_states(self) -> dict[str, str]:
        lines = self.run("sinfo", "-h", "-N", "-o", "%N %t", check=False).split("\n")
        return dict(line.split() for line in lines if line.strip())

    def jobs(self, states: str = "PENDING,RUNNING,COMPLETING,SUSPENDED,REQUEUED") -> list[dict[str, str]]:
        """Jobs in these states: id, state, node, partition and working directory."""
        names = ("id", "state", "node", "partition", "folder")
        lines = self.run("squeue", "-h", "-t", states, "-o", "%A|%T|%N|%P|%Z", check=False).splitlines()
        return [dict(zip(names, line.split("|", 4), strict=True)) for line in lines]

    def find_job(self, number: str) -> dict[str, str]:
        """The job of this number, in whatever state it is."""
        return next(job for job in self.jobs("all") if job["id"] == number)

    def settle(self) -> None:
        """Cancel all jobs, and wait until the nodes are free."""
        self.run("scancel", "--user=root", check=False)
        wait_until(lambda: not self.jobs(), 60, "the queue is empty")
        wait_until(lambda: self.node_states() == dict.fromkeys(NODES, "idle"), 60, "the nodes are idle")

    def down(self) -> None:
        self.run("scancel", "--user=root", check=False)
        daemons = [process for name in DAEMONS if (process := self._daemon(name))]
        for daemon in daemons:
            daemon.terminate()
        _, alive = psutil.wait_procs(daemons, 5)
        for daemon in alive:
            daemon.kill()
        for name in FILES:
            if (ETC / name).is_symlink():
                (ETC / name).unlink()
        self.lock.close()

    def _daemon(self, name: str) -> psutil.Process | None:
        """The daemon that has written a file with its number, if it runs."""
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            process = psutil.Process(int((self.folder / f"run/{name}.pid").read_text()))
            if process.name().startswith(name.split(".")[0]):
                return process
        return None


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return ""


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()

"""A SLURM cluster of one node on this machine: real daemons, two GPUs that are only names.

No systemd, no cgroups, no accounting. Debian's packages; root, for the daemons' own sake.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
CONFIGURATION = Path("/etc/slurm/slurm.conf")  # the executor plugin drops SLURM_CONF
OURS = "# Written by Retort's make slurm-test, which also deletes it."
MUNGE_SOCKET = Path("/run/munge/munge.socket.2")
GPUS = 2
START_SECONDS = 60

SLURM = """{ours}
ClusterName=retort
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
# A job that was preempted may start again after this many seconds.
AuthInfo=cred_expire=5
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
MinJobAge=600
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=100000,bf_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:fake:{gpus}
PartitionName=work Nodes={host} Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes={host} MaxTime=60 PriorityTier=9 PreemptMode=OFF
"""
GRES = """{ours}
AutoDetect=off
NodeName={host} Name=gpu Type=fake Flags=nvidia_gpu_env File={root}/gpu[0-{last}]
"""


class Unavailable(Exception):
    """Why no cluster can be started here."""


def installed() -> None:
    """Have Debian's packages.

    Raises:
        Unavailable: nobody may install them, there is no apt, or a real cluster is set up here.
    """
    if os.geteuid():
        raise Unavailable("it installs and starts SLURM, which only root may")
    if CONFIGURATION.exists() and OURS not in CONFIGURATION.read_text():
        raise Unavailable(f"{CONFIGURATION} belongs to a cluster of this machine's own")
    if shutil.which("slurmctld") and shutil.which("munged"):
        return
    if not shutil.which("apt-get"):
        raise Unavailable("it takes SLURM from Debian's packages, and here is no apt-get")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", "-q", *command], env=quiet, check=True, capture_output=True)


@contextmanager
def cluster(root: Path) -> Iterator[None]:
    """A running cluster whose files lie in ``root``; afterwards all of it is gone again."""
    if CONFIGURATION.exists():  # an earlier run that was killed
        lines = CONFIGURATION.read_text().splitlines()
        (state,) = (line for line in lines if line.startswith("StateSaveLocation="))
        stop(Path(state.partition("=")[2]).parent)
    stop(root)
    configure(root)
    try:
        start(root)
        yield
    finally:
        stop(root)
        CONFIGURATION.unlink()
        CONFIGURATION.with_name("gres.conf").unlink()


def configure(root: Path) -> None:
    """Write the daemons' configuration and the device nodes behind the two GPUs."""
    for name in ("state", "spool"):
        (root / name).mkdir(parents=True)
    for number in range(GPUS):  # a regular file would leave CUDA_VISIBLE_DEVICES unset
        os.mknod(root / f"gpu{number}", 0o666 | 0o020000, os.makedev(1, 3))
    host = socket.gethostname().partition(".")[0]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024 - 512
    slurm = SLURM.format(
        ours=OURS, host=host, root=root, cpus=os.cpu_count(), memory=memory, gpus=GPUS
    )
    CONFIGURATION.parent.mkdir(exist_ok=True)
    CONFIGURATION.write_text(slurm)
    gres = GRES.format(ours=OURS, host=host, root=root, last=GPUS - 1)
    CONFIGURATION.with_name("gres.conf").write_text(gres)


def start(root: Path) -> None:
    """Start munge, if none runs, and the two daemons; wait until the node takes jobs."""
    if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode:
        key = root / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        MUNGE_SOCKET.parent.mkdir(exist_ok=True)
        MUNGE_SOCKET.parent.chmod(0o755)
        command = ["munged", "--force", f"--key-file={key}", f"--socket={MUNGE_SOCKET}"]
        command += [f"--{name}={root}/munged.{name[:3]}" for name in ("pid-file", "log-file")]
        subprocess.run([*command, f"--seed-file={root}/munged.seed"], check=True)
    for daemon in (["slurmctld", "-i"], ["slurmd"]):
        subprocess.run(daemon, check=True)
    deadline = time.monotonic() + START_SECONDS
    while query("sinfo", "-h", "-p", "work", "-o", "%T") != "idle":
        if time.monotonic() > deadline:
            logs = "".join(path.read_text()[-2000:] for path in root.glob("*.log"))
            raise RuntimeError(f"the node does not become idle:\n{logs}")
        time.sleep(0.5)


def stop(root: Path) -> None:
    """Stop the daemons that a cluster in ``root`` has started, and delete its files."""
    for name in ("slurmd", "slurmctld", "munged"):
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int((root / f"{name}.pid").read_text())
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                os.kill(pid, signal.SIGTERM)
                gone(pid)
    shutil.rmtree(root, ignore_errors=True)


def gone(pid: int) -> None:
    """Wait a while for a process to end; kill it if it does not."""
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def query(*command: str) -> str:
    """What a SLURM client prints, nothing if it cannot reach its daemon."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

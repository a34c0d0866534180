"""A SLURM cluster of one node on this machine: real daemons, two GPUs that are only names.

No systemd, no cgroups, no accounting. Debian's packages; root, for the daemons' own sake. SLURM's
time limits are for nodes that answer; on a starved machine they would call a job lost that is only
late, so here all of them are minutes long.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
CONFIGURATION = Path("/etc/slurm/slurm.conf")  # the executor plugin drops SLURM_CONF
OURS = "# Written by Retort's make slurm-test, which also deletes it."
MUNGE_SOCKET = Path("/run/munge/munge.socket.2")
LOCK = Path("/run/lock/retort-slurm-test")
GPUS = 2
PATIENCE_SECONDS = 600
MIN_JOB_AGE = 86400  # seconds that the controller remembers an ended job: all of a test

SLURM = """{ours}
ClusterName=retort
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
# A launch must be verified within this many seconds, and a job that was preempted waits for them.
AuthInfo=cred_expire=30
MessageTimeout=60
TCPTimeout=30
BatchStartTimeout=600
EioTimeout=600
UnkillableStepTimeout=600
SlurmdTimeout=0
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
KillWait=30
MinJobAge={age}
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=100000,bf_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:fake:{gpus}
PartitionName=work Nodes={host} Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes={host} MaxTime=INFINITE PriorityTier=9 PreemptMode=OFF
"""
GRES = """{ours}
AutoDetect=off
NodeName={host} Name=gpu Type=fake Flags=nvidia_gpu_env File={root}/gpu[0-{last}]
"""


class Unavailable(Exception):
    """Why no cluster can be started here."""


class Failed(Exception):
    """What did not happen in the time it was given, or a command that failed."""


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
    wait = ["-o", f"DPkg::Lock::Timeout={PATIENCE_SECONDS}"]
    for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        call = ["apt-get", "-q", *wait, *command]
        done = subprocess.run(call, env=quiet, check=False, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{' '.join(call)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


@contextmanager
def only_one() -> Iterator[None]:
    """Wait until no other test holds this machine's cluster; the kernel lifts a dead one's hold."""
    with LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("slurm-test: another one runs on this machine; waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
        ours=OURS,
        host=host,
        root=root,
        age=MIN_JOB_AGE,
        cpus=os.cpu_count(),
        memory=memory,
        gpus=GPUS,
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
    wait_until(lambda: query("sinfo", "-h", "-p", "work", "-o", "%T") == "idle", "an idle node")


def wait_until(holds: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Look twice a second until something holds.

    Raises:
        Failed: it does not within the time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"{what} was not seen in {seconds:.0f} s")
        time.sleep(0.5)


def stop(root: Path) -> None:
    """End the jobs and daemons of a cluster in ``root``, and delete its files."""
    if find_daemon(root, "slurmctld") and query("squeue", "-h"):
        query("scancel", "--user", "root")
        with suppress(Failed):  # what does not end is left to whoever reads the process list
            wait_until(lambda: not query("squeue", "-h"), "the end of all jobs", 120)
    for name in ("slurmd", "slurmctld", "munged"):
        if pid := find_daemon(root, name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
                gone(pid)
    shutil.rmtree(root, ignore_errors=True)


def find_daemon(root: Path, name: str) -> int:
    """Process id of a daemon that a cluster in ``root`` has started; 0 if it does not run."""
    with suppress(FileNotFoundError, ProcessLookupError, ValueError):
        pid = int((root / f"{name}.pid").read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() == name:
            return pid
    return 0


def gone(pid: int) -> None:
    """Wait a while for a process to end; kill it if it does not."""
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def query(*command: str) -> str:
    """What a SLURM client prints; nothing if it cannot reach its daemon or is not there."""
    if not shutil.which(command[0]):
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def ask(*command: str) -> str:
    """What a SLURM client prints; asked again while it fails, because the controller may be busy.

    Raises:
        Failed: it has failed all the time.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
        if time.monotonic() > deadline:
            raise Failed(f"{' '.join(command)}: {done.stderr.strip()}")
        time.sleep(1)

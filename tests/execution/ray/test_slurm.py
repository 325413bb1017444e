"""The batch script that ships, on a real Slurm with two hosts: its time limit, and a job that takes the machines away.

By hand (``make soak``), as root on Linux with Slurm and munge (Debian's ``slurm-wlm``); hosts are namespaces of this
machine.
"""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts import OUTSIDE, SHARED, Hosts, missing
from labs import make_lab
from servers import database_url

from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import find_study, get_study

LACKS = missing("slurmctld", "slurmd", "munged")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(LACKS), reason=f"Slurm on hosts needs {', '.join(LACKS)}"),
]

SHIPPED = Path(__file__).resolve().parents[3] / "deploy/slurm.sh"
SERVICE = f"[tuning]\nhost={OUTSIDE}\nport=5432\nuser=postgres\ndbname=slurm\n"
CONFIGURATION = """
ClusterName=lab
SlurmctldHost=n1
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=/run/munge.socket
StateSaveLocation=/run/slurmctld
SlurmdSpoolDir=/run/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1,n2 CPUs=2
PartitionName=low Nodes=n1,n2 Default=YES PriorityTier=1 GraceTime=60
PartitionName=high Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF
"""
DAEMONS = """
mkdir -p /run/slurmd /run/slurmctld
munged --force --key-file={shared}/munge.key --socket=/run/munge.socket --log-file=/run/munged.log \
  --pid-file=/run/munged.pid --seed-file=/run/munged.seed
[ $(hostname) = n1 ] && slurmctld -L /run/slurmctld.log
slurmd -N $(hostname) -L /run/slurmd.log
"""


@pytest.fixture(scope="module")
def hosts(postgres: Any) -> Iterator[Hosts]:
    environment = {
        "LEDGER": f"{SHARED}/ledger.txt",
        "AIFS_TUNE_STORAGE": "postgresql+psycopg://",
        "PGSERVICE": "tuning",
        "SLURM_CONF": f"{SHARED}/slurm.conf",
    }
    postgres.psql("CREATE DATABASE slurm TEMPLATE template_lab")
    hosts = Hosts(["n1", "n2"], environment, files={".pg_service.conf": SERVICE})
    try:
        information = postgres.get_postmaster_info()
        hosts.relay(5432, f"{information.socket_dir}/.s.PGSQL.{information.port}")
        (hosts.shared / "slurm.conf").write_text(CONFIGURATION)
        (hosts.shared / "munge.key").write_bytes(secrets.token_bytes(1024))
        (hosts.shared / "munge.key").chmod(0o400)
        text = SHIPPED.read_text().replace("/shared", SHARED)
        text = text.replace("#SBATCH --gpus-per-node=1\n", "").replace("--cpus-per-task=8", "--cpus-per-task=2")
        text = text.replace(f"source {SHARED}/venv/bin/activate\n", "")  # the environment of these tests is used
        (hosts.shared / "lab").mkdir()
        make_lab(hosts.shared / "lab")
        (hosts.shared / "lab/slurm.sh").write_text(text)
        for name in ("n1", "n2"):
            hosts[name].popen("sh", "-c", DAEMONS.format(shared=SHARED), stdout=subprocess.DEVNULL).wait(timeout=30)
        until(lambda: "idle" in hosts["n1"].run("sinfo", "--noheader", "--format=%T"), 60)
        yield hosts
    finally:
        hosts.close()


def until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(1)


class Jobs:
    """Jobs of one study; the sweep is always submitted with the same line."""

    def __init__(self, hosts: Hosts, url: str, study: str) -> None:
        self._hosts, self._url, self._study = hosts, url, study
        (hosts.shared / "ledger.txt").write_text("")

    def typed(self, line: str) -> str:
        return self._hosts["n1"].run("sh", "-c", f"cd {SHARED}/lab && {line}")

    def submit(self, n_trials: int, options: str = "") -> str:
        sweep = f"run slow.yaml --study {self._study} --finish --trials {n_trials} --epochs 40 --workers 4"
        sweep += " --set search.scheduler=none --trust-code mylab:slow"
        written = f"--output=/run/shared/lab/{self._study}.out --open-mode=append"
        return self.typed(f"sbatch --parsable {written} {options} slurm.sh {sweep}").strip()

    def state(self, job: str) -> str:
        shown = self.typed(f"scontrol show job {job}")
        return shown.partition("JobState=")[2].split()[0]

    def counts(self) -> dict[str, int]:
        return dict(get_study(Storage(self._url), self._study).counts())

    def finished(self) -> dict[int, tuple]:
        found = find_study(Storage(self._url), self._study)
        trials = found.all_trials() if found is not None else []
        return {t.number: (t.state, t.value, t.seed, t.finished_at) for t in trials if t.is_finished}

    def said(self) -> str:
        return (self._hosts.shared / f"lab/{self._study}.out").read_text()

    def check(self, n_trials: int, before: dict[int, tuple]) -> None:
        after = self.finished()
        assert before.items() <= after.items()
        failed = {t.number: t.reason for t in get_study(Storage(self._url), self._study).all_trials() if t.reason}
        assert not failed, f"{failed} {self.said()}"
        assert [after[number][0] for number in sorted(after)] == ["complete"] * n_trials
        lines = (self._hosts.shared / "ledger.txt").read_text().splitlines()
        ended = [line.split()[0] for line in lines if line.endswith("ended")]
        assert set(ended) == {str(seed) for _, _, seed, _ in after.values()}
        assert len(ended) <= n_trials + 4, "only what was in flight was trained again"


@pytest.fixture
def jobs(hosts: Hosts, postgres: Any, request: pytest.FixtureRequest) -> Jobs:
    return Jobs(hosts, database_url(postgres, "slurm"), request.node.name.split("_")[-1])


def test_a_job_runs_trials_on_all_its_hosts(jobs):
    job = jobs.submit(24)
    until(lambda: jobs.state(job) in ("COMPLETED", "FAILED"), 300)
    assert jobs.state(job) == "COMPLETED", jobs.said()
    jobs.check(24, {})
    workers = {t.worker.split(":")[0] for t in get_study(Storage(jobs._url), jobs._study).all_trials()}
    assert workers == {"n1", "n2"}


def test_the_same_line_goes_on_after_the_time_limit(jobs):
    job = jobs.submit(80, "--time=2")
    until(lambda: jobs.state(job) not in ("PENDING", "RUNNING", "COMPLETING"), 300)
    before = jobs.finished()
    assert 0 < len(before) < 80
    assert jobs.counts()["running"] == 0, "it put back what was in flight"
    assert "aifs-tune resume" in jobs.said()
    again = jobs.submit(80)
    until(lambda: jobs.state(again) in ("COMPLETED", "FAILED"), 400)
    assert jobs.state(again) == "COMPLETED", jobs.said()
    jobs.check(80, before)


def test_a_job_that_loses_its_hosts_to_another_goes_on_after_preemption(jobs):
    job = jobs.submit(60, "--partition=low")
    until(lambda: len(jobs.finished()) >= 8, 200)
    jobs.typed("sbatch --partition=high --nodes=2 --exclusive --output=/dev/null --wrap 'srun --nodes=2 sleep 15'")
    until(lambda: jobs.state(job) == "PENDING", 200)
    before = jobs.finished()
    assert 8 <= len(before) < 60
    until(lambda: jobs.state(job) in ("COMPLETED", "FAILED"), 600)
    assert jobs.state(job) == "COMPLETED", jobs.said()
    jobs.check(60, before)

"""A cluster of three hosts that ``ray up`` starts with the file that ships, and what happens to hosts and networks.

By hand (``make soak``), as root on Linux: hosts are namespaces of this machine.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import libfaketime
import psutil
import pytest
from hosts import OUTSIDE, SHARED, Hosts, missing
from labs import make_lab
from servers import database_url

from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import find_study

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(missing()), reason=f"hosts need {', '.join(missing())}"),
]

SHIPPED = Path(__file__).resolve().parents[3] / "deploy/ray-cluster.yaml"
DASHBOARD = "http://127.0.0.1:8265"
SERVICE = f"[tuning]\nhost={OUTSIDE}\nport=5432\nuser=postgres\ndbname=tuning\n"
CLOCK = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"


class Site:
    """Three hosts with a cluster, a desk from which it is used, and a database that all of them reach."""

    def __init__(self, hosts: Hosts, url: str) -> None:
        self.hosts, self._url = hosts, url
        self._tunnel: subprocess.Popen[str] | None = None
        text = SHIPPED.read_text().replace("/shared", SHARED)
        text = text.replace("head.lab", "head").replace("gpu1.lab, gpu2.lab", "one, two")
        # what the packages come from is not there: the environment of these tests is used
        text, n_replaced = re.subn(r"^  - python3 -m venv .*$", '  - "true"', text, flags=re.MULTILINE)
        assert n_replaced == 1
        (hosts.shared / "venv").symlink_to(sys.prefix)
        (hosts.shared / "cluster.yaml").write_text(text)

    def up(self) -> None:
        """Start the cluster and a way to its dashboard; return when all hosts have joined."""
        self.hosts["desk"].run("ray", "up", "-y", f"{SHARED}/cluster.yaml")
        until(lambda: self.n_nodes() == 3, 120)
        self._tunnel = self.hosts["desk"].popen(
            "ray", "dashboard", f"{SHARED}/cluster.yaml", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(lambda: self._answers(), 60)

    def down(self) -> None:
        if self._tunnel is not None:
            for process in [psutil.Process(self._tunnel.pid), *psutil.Process(self._tunnel.pid).children()]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._tunnel.wait()
            self._tunnel = None
        self.hosts["desk"].run("ray", "down", "-y", f"{SHARED}/cluster.yaml")

    def left_running(self) -> set[str]:
        """The processes of Ray that are alive on any host."""
        hosts = [self.hosts[name] for name in ("head", "one", "two")]
        alive = [each for host in hosts for each in host.processes() if each.status() != psutil.STATUS_ZOMBIE]
        return {"raylet", "gcs_server"} & {process.name() for process in alive}

    def n_nodes(self) -> int:
        """How many hosts Ray takes for alive."""
        said = self.hosts["head"].run(
            "python", "-c", "from ray.util.state import list_nodes; print([n.state for n in list_nodes()])",
            environment={"RAY_AUTH_MODE": "token", "RAY_ADDRESS": DASHBOARD},
        )  # fmt: skip
        return said.count("ALIVE")

    def aifs_tune(self, *words: str) -> str:
        """What the command says at the desk."""
        return self.hosts["desk"].run(
            "sh", "-c", f'cd {SHARED}/lab && exec aifs-tune "$@"', "aifs-tune", *words, "--address", DASHBOARD
        )

    def submit(self, study: str, n_trials: int, *, epochs: int = 30) -> None:
        (self.hosts.shared / "ledger.txt").write_text("")
        sweep = ("slow.yaml", "--study", study, "--trials", str(n_trials), "--workers", "6")
        self.aifs_tune("submit", *sweep, "--epochs", str(epochs), "--set", "search.scheduler=none")

    def finished(self, study: str) -> dict[int, tuple]:
        """What is stored of the finished trials, all that must never change again."""
        found = find_study(Storage(self._url), study)
        trials = found.all_trials() if found is not None else []
        return {t.number: (t.state, t.value, t.seed, t.finished_at) for t in trials if t.is_finished}

    def status(self, study: str) -> dict[str, Any]:
        return json.loads(self.aifs_tune("status", study, "--json"))

    def check(self, study: str, n_trials: int, before: dict[int, tuple], *, most_repeated: int) -> None:
        """All trials are complete, what was stored before is as it was, and few were trained to their end twice."""
        until(lambda: self.status(study)["job"]["state"] not in ("pending", "running"), 900)
        assert self.status(study)["job"]["state"] == "succeeded", self.aifs_tune("logs", study)
        after = self.finished(study)
        assert before.items() <= after.items()
        found = find_study(Storage(self._url), study)
        assert [t.reason for t in found.all_trials() if t.state != "complete"] == []
        assert sorted(after) == list(range(n_trials))
        lines = (self.hosts.shared / "ledger.txt").read_text().splitlines()
        ended = Counter(line.split()[0] for line in lines if line.endswith("ended"))
        assert set(ended) == {str(seed) for _, _, seed, _ in after.values()}
        assert sum(n - 1 for n in ended.values()) <= most_repeated

    def _answers(self) -> bool:
        asked = self.hosts["desk"].popen(
            *("ray", "job", "list", "--address", DASHBOARD),
            environment={"RAY_AUTH_MODE": "token"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return asked.wait(timeout=60) == 0


def until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(1)


@pytest.fixture(scope="module")
def site(postgres: Any) -> Iterator[Site]:
    environment = {
        "LEDGER": f"{SHARED}/ledger.txt",
        "AIFS_TUNE_ARTIFACTS": f"{SHARED}/artifacts",
        "AIFS_TUNE_STORAGE": "postgresql+psycopg://",
        "PGSERVICE": "tuning",
    }
    postgres.psql("CREATE DATABASE tuning TEMPLATE template_lab")
    hosts = Hosts(["desk", "head", "one", "two"], environment, files={".pg_service.conf": SERVICE})
    try:
        information = postgres.get_postmaster_info()
        hosts.relay(5432, f"{information.socket_dir}/.s.PGSQL.{information.port}")
        (hosts.shared / "lab").mkdir()
        make_lab(hosts.shared / "lab")
        hosts["desk"].run("ray", "get-auth-token", "--generate")
        site = Site(hosts, database_url(postgres, "tuning"))
        site.up()
        yield site
        site.down()
        until(lambda: not site.left_running(), 60)
    finally:
        hosts.close()


def test_a_submitted_sweep_uses_all_hosts(site):
    site.submit("all", 18)
    site.check("all", 18, {}, most_repeated=0)
    workers = {trial.worker.split(":")[0] for trial in find_study(Storage(site._url), "all").all_trials()}
    assert workers == {"head", "one", "two"}


@pytest.mark.parametrize("seconds", [30, 600])
def test_a_host_that_is_cut_off_costs_what_it_was_training(site, seconds):
    study, n_trials, epochs = (f"cut-{seconds}", 60, 30) if seconds < 60 else (f"cut-{seconds}", 500, 60)
    site.submit(study, n_trials, epochs=epochs)
    until(lambda: len(site.finished(study)) >= 8, 200)
    site.hosts.network(cut=["two"])
    time.sleep(seconds)
    before = site.finished(study)
    assert 8 < len(before) < n_trials, "the others went on"
    if seconds > 60:
        told = [notice["text"] for notice in site.status(study)["notices"]]
        assert any("nodes have left the cluster: 4 trials at a time now, 6 before" in text for text in told), told
    site.hosts.network()
    site.check(study, n_trials, before, most_repeated=2)
    until(lambda: site.n_nodes() == 3, 180)


def test_a_slow_network_that_loses_packets_only_takes_longer(site):
    site.hosts.network(delay_s=0.1, loss=0.02)
    try:
        site.submit("slow", 18, epochs=6)  # each takes some ten trips to the database and back
        site.check("slow", 18, {}, most_repeated=0)
    finally:
        site.hosts.network()


def test_a_full_disk_on_a_host_loses_nothing(site):
    site.submit("full", 40)
    until(lambda: len(site.finished("full")) >= 8, 200)
    site.hosts["two"].run("sh", "-c", "cat /dev/zero > /tmp/ray/filler 2> /dev/null || df /tmp/ray")
    before = site.finished("full")
    try:
        site.check("full", 40, before, most_repeated=2)
    finally:
        site.hosts["two"].run("rm", "/tmp/ray/filler")


def test_hosts_whose_clocks_differ_by_hours_agree(site):
    site.down()
    for name, offset in (("one", "+3600"), ("two", "-3600")):
        lines = (f"export LD_PRELOAD={CLOCK}", f"export FAKETIME={offset}", "export FAKETIME_DONT_FAKE_MONOTONIC=1")
        for line in (*lines, "export DONT_FAKE_MONOTONIC=1"):
            site.hosts[name].run("sh", "-c", f"echo '{line}' >> .bashrc")
    site.up()
    site.submit("clocks", 18)
    site.check("clocks", 18, {}, most_repeated=0)
    trials = find_study(Storage(site._url), "clocks").all_trials()
    assert all(t.started_at <= t.finished_at for t in trials)
    spread = max(t.finished_at for t in trials) - min(t.started_at for t in trials)
    assert spread.total_seconds() < 600, "times are those of the driver, not of the hosts"
    for name in ("one", "two"):
        site.hosts[name].run("sed", "-i", "/FAKE\\|PRELOAD/d", ".bashrc")

"""A Ray that a sweep starts on this machine is of its user alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aifs_tune.config.search import SearchSpec
from aifs_tune.config.sweep import Resources
from aifs_tune.execution.context import RayConfig
from aifs_tune.execution.ray.cluster import ray_pool

READ = """
import sys
from ray._raylet import GcsClient
try:
    print("read", len(GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None, timeout=30)))
except BaseException as error:
    print("refused", type(error).__name__)
"""


def talk(address: str, environment: dict[str, str]) -> str:
    """What a process with this environment learns from Ray's server."""
    command = [sys.executable, "-c", READ, address]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120).stdout


def listening_elsewhere(folder: str) -> set[str]:
    """Addresses other than the loopback one at which processes with ``folder`` in their command line listen."""
    inodes = set()
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and folder in (process / "cmdline").read_text():
                inodes |= {os.readlink(each) for each in (process / "fd").iterdir()}
        except OSError:
            continue  # it has ended meanwhile, or belongs to somebody else
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state, inode = (line.split()[i] for i in (1, 3, 9))
            if state == "0A" and f"socket:[{inode}]" in inodes:
                found.add(local.partition(":")[0])
    assert found, "no process of Ray was found"
    return {address for address in found if not address.endswith(("0100007F", "00000000000000000000000001000000"))}


@pytest.mark.usefixtures("no_ray")
def test_it_listens_on_the_loopback_address_and_needs_its_token():
    import ray

    before = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    with ray_pool(SearchSpec(workers=1), Resources(), RayConfig()):
        folder = ray._private.worker._global_node.get_temp_dir_path()
        assert listening_elsewhere(folder) == set()
        assert ray.get(ray.remote(lambda: 3).remote()) == 3
        address = ray.get_runtime_context().gcs_address
        assert talk(address, dict(os.environ)).startswith("read ")
        assert talk(address, before) == "refused AuthenticationError\n"
    assert not Path(folder).exists()

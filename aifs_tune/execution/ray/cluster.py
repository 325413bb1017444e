"""Clusters: starting or joining Ray, and how many trials fit."""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray import _raylet
from ray._private import ray_constants
from ray.autoscaler.sdk import request_resources

from aifs_tune.config.search import SearchSpec
from aifs_tune.config.sweep import Resources
from aifs_tune.errors import RequestError, WorkError
from aifs_tune.execution.context import RayConfig
from aifs_tune.execution.ray import preload as ray_preload

_MOST_WANTED = 1000
"""Most trials at a time that an autoscaler is asked to make room for."""
_CORE = {"gcs_server": "control process (gcs_server)", "raylet": "node process (raylet)"}
_LOOK_S = 0.5
_MOST_S_WITHOUT_CONTROL = 10


@dataclass(frozen=True)
class Pool:
    """How many trials run at the same time, and what each may use: ``cpu`` cores and ``gpu``, GPUs or the part of
    one."""

    workers: int
    cpu: float
    gpu: float
    n_nodes: int
    is_ours: bool
    """Whether this process started Ray, so that its workers have the environment of this process."""
    wait: Callable[[], None]
    """Returns when the workers that started with Ray are ready for trials."""
    grows: bool = False
    """Whether nodes that join or leave change how many trials run at the same time."""
    most: int | None = None
    """Never more trials than this at the same time."""
    is_to_be_measured: bool = False
    """Whether ``gpu`` is for the first trial alone, whose memory says what the others need."""

    def fit(self) -> int:
        """How many trials may run on the nodes that are there now, at least 1; looked up every two seconds."""
        fit = max(1, _fit_at(int(time.monotonic() / 2), self.cpu, self.gpu))
        return min(fit, self.most or fit)

    def is_room(self, excluded_nodes: Collection[str]) -> bool:
        """Whether there is a node beside those ``left_out``, by Ray's ids, that is large enough for a trial."""
        there = (node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in excluded_nodes)
        return any(_fit(self.cpu, self.gpu, resources) for resources in there)

    @contextmanager
    def requesting_nodes(self, n_trials: int) -> Iterator[None]:
        """Let an autoscaler, if the cluster has one, start nodes for so many trials at a time."""
        wanted = {"CPU": self.cpu, "GPU": self.gpu}
        one = {name: amount for name, amount in wanted.items() if amount}
        request_resources(bundles=[one] * min(n_trials, self.most or _MOST_WANTED))
        try:
            yield
        finally:
            request_resources(bundles=[])

    def with_gpu(self, gpu: float) -> Pool:
        """The same with another share of a GPU for each trial."""
        fit = max(1, _fit(self.cpu, gpu, ray.cluster_resources()))
        return replace(self, gpu=gpu, workers=min(fit, self.most or fit), is_to_be_measured=False)

    def useful_on_a_gpu(self, n_trials: int) -> int:
        """How many of ``n_trials`` would run on each GPU if its memory allowed any number; at least 1."""
        there = ray.cluster_resources()
        by_cpu: int = int(there.get("CPU", 0) / self.cpu + 1e-9)
        together = min(by_cpu, n_trials, self.most or n_trials)
        return max(1, math.ceil(together / max(1, int(there.get("GPU", 0)))))


@contextmanager
def ray_pool(
    search: SearchSpec, resources: Resources, ray_config: RayConfig, preload: Sequence[str] = ()
) -> Iterator[Pool]:
    """A running Ray: a cluster by its address, one that is running here already, or one of our own.

    The workers of our own start at once, beside whatever their driver does next, and import the modules
    ``preload``.

    Raises
    ------
    RequestError
        If one trial asks for more than there is, or the cluster is to be joined without a token.
    WorkError
        If Ray does not start, or there is none at ``address``.
    """
    ours = not ray.is_initialized()
    if ours and not ray_config.address:
        _check_cores(search, resources)
    with ExitStack() as running:
        wait = _nothing_to_wait_for
        if ours:
            marks = Path(running.enter_context(TemporaryDirectory()))
            folder = None if ray_config.address else running.enter_context(_of_this_user_alone())
            running.callback(ray.shutdown)
            wait = _start(search, resources, ray_config, preload, marks, folder)
        for name in ("ray.tune", "ray.air", "ray._private"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        there = ray.cluster_resources()
        is_measured = resources.gpu == "auto" and there.get("GPU", 0) >= 1
        gpu = float(is_measured) if resources.gpu == "auto" else resources.gpu
        yield Pool(
            _workers(search, resources.cpu, gpu, there),
            resources.cpu,
            gpu,
            sum(node["Alive"] for node in ray.nodes()),
            ours and not ray_config.address,
            wait,
            grows=bool(ray_config.address),
            most=search.workers,
            is_to_be_measured=is_measured,
        )


@contextmanager
def end_of_ray_told(tell: Callable[[str], None], command: str) -> Iterator[None]:
    """While this lasts, tell if a process of the Ray that this one started ends, and ``command`` to go on with.

    Ray then ends this process too, within 20 s and with a message that says nothing of the sweep.
    """
    is_over = threading.Event()
    started = ray._private.worker._global_node.all_processes
    watched = [(name, info.process) for kind, name in _CORE.items() for info in started.get(kind, ())]

    def look() -> None:
        while not is_over.wait(_LOOK_S):
            for name, process in watched:
                if process.poll() is not None:
                    tell(f"the {name} of Ray has ended, and this sweep with it; finished trials are stored. {command}")
                    return

    threading.Thread(target=look, name="aifs-tune end of Ray", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _start(
    search: SearchSpec,
    resources: Resources,
    ray_config: RayConfig,
    preload: Sequence[str],
    marks: Path,
    folder: Path | None,
) -> Callable[[], None]:
    """Start Ray with its files in ``folder``, or join it; returns how to wait for the workers that start with it."""
    address = ray_config.address
    cores = len(os.sched_getaffinity(0))
    cpus = math.ceil(resources.cpu * search.workers) if search.workers else cores
    is_small = bool(search.workers) or not resources.gpu  # else Ray would start a worker for each core
    is_preloading = is_small and not address
    settings = {
        "preload_python_modules": [*preload, ray_preload.__name__],
        # Ray ends what has idled for a second once a trial's CPUs are reserved, and then starts others for the trial
        "idle_worker_killing_time_threshold_ms": 600_000,
        "gcs_rpc_server_reconnect_timeout_s": _MOST_S_WITHOUT_CONTROL,  # nobody starts it again
    }
    if address:
        _require_token(ray_config)
        if ":" in address:
            _check_reachable(address)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    os.environ[ray_preload.FOLDER_VARIABLE] = str(marks)
    options: dict[str, Any] = {"_system_config": settings} if is_preloading else {}
    if not address:
        options |= {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": str(folder)}
    try:
        try:
            _init(address, options)
        except Exception as error:  # Ray raises plain exceptions, as when a busy machine starts its processes too late
            if address:
                raise WorkError(f"cannot join Ray at {address}: {_brief(error)}; {_TOKEN_HINT}") from error
            ray.shutdown()
            _init_again(options)
    finally:
        del os.environ[ray_preload.FOLDER_VARIABLE]
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own handler would end the process on the spot
    if not is_preloading:
        return _nothing_to_wait_for
    return partial(ray_preload.wait_for, marks, min(cpus, search.workers or cpus))


def _init(address: str | None, options: Mapping[str, Any]) -> None:
    """Start Ray, or join that at ``address``."""
    ray.init(
        address=address or "local",  # None would join whatever Ray was started here last
        log_to_driver=False,
        configure_logging=True,
        logging_level=logging.ERROR,
        **options,
    )


def _init_again(options: Mapping[str, Any]) -> None:
    """Start Ray a second time; :class:`WorkError` with what to do if it fails again."""
    try:
        _init(None, options)
    except Exception as error:  # as before
        ray.shutdown()
        raise WorkError(
            f"Ray did not start on this machine, twice: {_brief(error)}. Nothing was run or stored; close other "
            "programs that keep the processor or the memory busy, and try again"
        ) from error


def _brief(error: BaseException) -> str:
    """The first sentences of a message, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MAX_BRIEF else f"{text[:_MAX_BRIEF]}..."


_MAX_BRIEF = 300
_TOKEN_HINT = "its token is looked for in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token"
_FOLDER_PREFIX = "aifs_tune_ray_"


@contextmanager
def _of_this_user_alone() -> Iterator[Path]:
    """Let a Ray of our own listen on the loopback address alone, with a fresh token, whatever the environment says of
    others; yields the folder for its files, which is private too."""
    if not hasattr(_raylet, "AuthenticationTokenLoader"):
        raise WorkError(f"Ray {ray.__version__} cannot be kept from other users of this machine; allowed: 2.60")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in token}
    is_for_clusters, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False  # else any address
    # a socket's path has at most 107 characters, of which Ray's own names take about 60
    root = tempfile.gettempdir() if len(tempfile.gettempdir()) <= 20 else "/tmp"
    _remove_folders_of_the_dead(Path(root))
    folder = tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}{os.getpid()}_", dir=root)
    # Ray makes its folder writable for all, but that of a private one cannot be reached
    os.environ.update(token)
    _read_environment_again()
    try:
        yield Path(folder) / "ray"
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        ray_constants.ENABLE_RAY_CLUSTER = is_for_clusters
        _read_environment_again()
        shutil.rmtree(folder, ignore_errors=True)


def _read_environment_again() -> None:
    """Let Ray take up another token; it reads the environment once."""
    native: Any = _raylet  # a compiled module without types
    native.Config.initialize("")
    native.AuthenticationTokenLoader.instance().reset_cache()


def _remove_folders_of_the_dead(root: Path) -> None:
    """Remove the folders of drivers that were killed."""
    for folder in root.glob(f"{_FOLDER_PREFIX}*_*"):
        pid = folder.name.removeprefix(_FOLDER_PREFIX).partition("_")[0]
        with suppress(OSError):
            if pid.isdecimal() and folder.stat().st_uid == os.getuid() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(folder, ignore_errors=True)


def _check_cores(search: SearchSpec, resources: Resources) -> None:
    """Refuse what this machine has not: Ray would believe any number."""
    cores = len(os.sched_getaffinity(0))
    if resources.cpu > cores:
        raise RequestError(
            f"resources.cpu: one trial is to use {resources.cpu:g} cores, and this machine has {cores}; "
            f"allowed: at most {cores}"
        )
    if search.workers and search.workers * resources.cpu > cores * (1 + 1e-9):
        fit = int(cores / resources.cpu + 1e-9)
        raise RequestError(
            f"search.workers: {search.workers} trials at a time with {resources.cpu:g} CPU each need "
            f"{search.workers * resources.cpu:g} cores, and this machine has {cores}; allowed: at most {fit}, or less "
            f"for each: resources.cpu={cores / search.workers:.3g}"
        )


def _nothing_to_wait_for() -> None:
    """Return at once: workers start when there is a trial."""


def _require_token(ray_config: RayConfig) -> None:
    """Refuse to join without a token unless ``allow_unauthenticated``."""
    mode = os.environ.get("RAY_AUTH_MODE")
    if ray_config.allow_unauthenticated:
        return
    if mode not in (None, "token"):
        raise RequestError(
            f"address: RAY_AUTH_MODE={mode} joins a cluster that asks for no token, so that "
            "whoever reaches it can run code; allowed: RAY_AUTH_MODE=token, or --allow-unauthenticated"
        )
    os.environ["RAY_AUTH_MODE"] = "token"


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing listens; Ray itself would try for minutes."""
    if address.startswith(("http://", "https://")):
        raise RequestError(
            f"address: {address} is the address of Ray's Jobs API, for aifs-tune submit; "
            "allowed: auto, HOST:PORT, ray://HOST:PORT"
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except ValueError:
        raise RequestError(
            f"address: {address!r} is not an address; allowed: auto, HOST:PORT, ray://HOST:PORT"
        ) from None
    except OSError as error:
        raise WorkError(f"cannot join Ray at {address}: {error.strerror or error}") from error


def _workers(search: SearchSpec, cpu: float, gpu: float, there: Mapping[str, float]) -> int:
    fit = _fit(cpu, gpu, there)
    if fit < 1:
        raise RequestError(
            f"resources: one trial needs {cpu:g} CPU and {gpu:g} GPU; "
            f"Ray has {there.get('CPU', 0):g} CPU and {there.get('GPU', 0):g} GPU"
        )
    return min(fit, search.workers or fit)


def _fit(cpu: float, gpu: float, there: Mapping[str, float]) -> int:
    """How many trials the resources ``there`` are enough for; no trial has parts of two GPUs."""
    fit, gpus = int(there.get("CPU", 0) / cpu + 1e-9), there.get("GPU", 0)
    if not gpu:
        return fit
    return min(fit, int(gpus) * int(1 / gpu + 1e-9) if gpu < 1 else int(gpus / gpu + 1e-9))


@lru_cache(maxsize=1)
def _fit_at(moment: int, cpu: float, gpu: float) -> int:
    del moment
    return _fit(cpu, gpu, ray.cluster_resources())

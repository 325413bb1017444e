"""Commands for sweeps that run as jobs of a Ray cluster."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aifs_tune._util.formatting import printable
from aifs_tune.cli.options import (
    AllowUnauthenticatedOption,
    EpochsOption,
    FindJobAddressOption,
    JobAddressOption,
    JsonOption,
    SeedOption,
    SetOption,
    StorageOption,
    StrictOption,
    StudyArgument,
    StudyOption,
    SweepArgument,
    TimeoutOption,
    TrialsOption,
    WarmStartOption,
    WorkersOption,
    echo_stderr,
    open_local_study,
    print_json,
)
from aifs_tune.cli.target import find_service
from aifs_tune.errors import RequestError, WorkError

if TYPE_CHECKING:
    from aifs_tune.config.sweep import SweepSpec
    from aifs_tune.execution.ray.jobs import RayJob, RayJobs


IncludeOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="Another file or folder that the sweep needs. Can be repeated."),
]
RequirementsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", exists=True, help="Requirements file of packages that the cluster installs for the job."
    ),
]
AnyVersionsOption = Annotated[
    bool, typer.Option("--any-versions", help="Run with whatever package versions the cluster has.")
]
_COMMAND = ("python", "-m", "aifs_tune")


def submit(
    sweep: SweepArgument,
    address: JobAddressOption,
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="Data to learn from: a path that exists on all nodes, or a URL.")
    ] = None,
    study: StudyOption = None,
    storage: StorageOption = None,
    trials: TrialsOption = None,
    epochs: EpochsOption = None,
    workers: WorkersOption = None,
    timeout: TimeoutOption = None,
    seed: SeedOption = None,
    overrides: SetOption = None,
    warm_start: WarmStartOption = None,
    strict: StrictOption = False,
    include: IncludeOption = None,
    requirements: RequirementsOption = None,
    any_versions: AnyVersionsOption = False,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Print the log until the job ends, and fail if the job fails. Ctrl-C stops only the log."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a sweep as a job of a Ray cluster.

    The command returns at once unless --follow is given.
    """
    from aifs_tune._util.object_store import is_url, url_problem
    from aifs_tune.config.loading import find_sweep_file, load_sweep_file
    from aifs_tune.samplers.proposer import check_sampler
    from aifs_tune.trainers.effects import check_effects
    from aifs_tune.trainers.factory import check_trainer

    file = find_sweep_file(sweep)
    spec = load_sweep_file(file, overrides or ())
    check_trainer(spec)
    check_effects(spec)
    check_sampler(spec)
    if data is not None and (wrong := url_problem(data) if is_url(data) else None) is not None:
        raise RequestError(f"--data: {wrong}")
    if data is not None and not is_url(data) and not Path(data).is_absolute():
        raise RequestError(f"--data: {data} is not a path that all nodes have; allowed: an absolute path, or a URL")
    name = study or spec.name
    given: dict[str, object] = {"--data": data, "--trials": trials, "--epochs": epochs, "--workers": workers}
    given |= {"--timeout": timeout, "--seed": seed}
    arguments = ["run", file.name, "--study", name]
    arguments += [word for option, value in given.items() if value is not None for word in (option, str(value))]
    arguments += [word for earlier in warm_start or () for word in ("--warm-start", earlier)]
    arguments += [word for override in overrides or () for word in ("--set", override)] + ["--strict"] * strict
    jobs = cluster_jobs(address, allow_unauthenticated)
    submit_command(
        jobs,
        name,
        arguments,
        spec,
        [file, *(include or ())],
        storage,
        requirements=requirements,
        any_versions=any_versions,
        as_json=as_json,
    )
    if follow:
        _follow(jobs, name)


def _follow(jobs: RayJobs, study: str) -> None:
    for piece in jobs.logs(study, follow=True):
        typer.echo(piece, nl=False)
    job = jobs.wait(study)
    if job.state != "succeeded":
        raise WorkError(f"job {job.id} is {job.state}: {job.message}")


def logs(
    study: StudyArgument,
    trial: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Print what this trial printed, logged and raised.")
    ] = None,
    address: FindJobAddressOption = None,
    follow: Annotated[bool, typer.Option("--follow", help="Print new lines until the job ends.")] = False,
    storage: StorageOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
) -> None:
    """Print the log of a trial, or of the last job of a study."""
    if (trial is None) == (address is None):
        raise RequestError("logs: allowed: either --trial N, or --address of the cluster whose job is meant")
    if trial is not None:
        _print_trial_log(study, trial, storage)
        return
    assert address is not None
    for piece in cluster_jobs(address, allow_unauthenticated).logs(study, follow=follow):
        typer.echo(piece, nl=False)


def _print_trial_log(study: str, trial: int, storage: str | None) -> None:
    service = find_service(storage)
    if service is None:
        from aifs_tune.artifacts.logs import read_log

        text = read_log(open_local_study(study, storage), trial)
    else:
        text = service.study(study).log(trial)
    if sys.stdout.isatty():
        text = "\n".join(printable(line) for line in text.splitlines())
    typer.echo(text, nl=not text.endswith("\n"))


def resume_as_job(
    study: str,
    storage: str | None,
    workers: int | None,
    timeout: float | None,
    address: str | None,
    allow_unauthenticated: bool,
    as_json: bool,
) -> bool:
    """Submit the rest of a study as a job if ``address`` is a Ray dashboard; return whether it is."""
    from aifs_tune.execution.ray.jobs import is_job_address

    if address is None or not is_job_address(address):
        return False
    from aifs_tune.config.trusted_code import check_allowed, code_in

    spec = open_local_study(study, storage).spec
    for name in code_in(spec):
        check_allowed(name)
    given = {"--workers": workers, "--timeout": timeout}
    arguments = [
        "resume",
        study,
        *(word for key, value in given.items() if value is not None for word in (key, str(value))),
        *(word for name in code_in(spec) for word in ("--trust-code", name)),  # allowed here: another account runs it
    ]
    submit_command(cluster_jobs(address, allow_unauthenticated), study, arguments, spec, [], storage, as_json=as_json)
    return True


def submit_command(
    jobs: RayJobs,
    study: str,
    arguments: Sequence[str],
    spec: SweepSpec,
    files: Sequence[Path],
    storage: str | None,
    *,
    requirements: Path | None = None,
    any_versions: bool = False,
    as_json: bool = False,
) -> None:
    """Submit a command of aifs-tune as a job and print its id and state."""
    from aifs_tune.execution.packaging import PINS_VARIABLE, pack, pins
    from aifs_tune.storage.postgres import for_other_machines
    from aifs_tune.storage.storage import given_url

    url, shown = for_other_machines(given_url(storage))
    environment = _shared_storage_variables()
    if not any_versions:
        environment[PINS_VARIABLE] = pins()
    packages = [] if requirements is None else requirements.read_text().splitlines()
    with tempfile.TemporaryDirectory(prefix="aifs_tune_") as folder:
        pack(Path(folder), spec, files)
        job, is_new = jobs.submit(
            study,
            [*_COMMAND, *arguments, "--storage", url, "--address", "auto", "--allow-unauthenticated"],
            folder=Path(folder),
            storage=shown,
            environment=environment,
            requirements=[line for line in packages if line.strip() and not line.startswith("#")],
        )
    if as_json:
        print_json({"study": study, "is_new": is_new, **job_summary(job)})
        return
    typer.echo(job.id)
    echo_stderr(f"{'Submitted' if is_new else 'Already submitted'}: job {job.id} at {jobs.address} is {job.state}.")
    echo_stderr(f"Follow it with: aifs-tune logs {study} --address {jobs.address} --follow")


def job_summary(job: RayJob) -> dict[str, Any]:
    """State of a job as JSON."""
    return {"job": job.id, "attempt": job.attempt, "state": job.state, "message": job.message}


def cluster_jobs(address: str, allow_unauthenticated: bool) -> RayJobs:
    """Jobs of a Ray cluster."""
    from aifs_tune.execution.ray.jobs import RayJobs

    return RayJobs(address, allow_unauthenticated=allow_unauthenticated)


def _shared_storage_variables() -> dict[str, str]:
    """Environment variables that tell a job which folders or object stores all nodes share."""
    from aifs_tune._util.object_store import is_url
    from aifs_tune.storage.postgres import ARTIFACTS_VARIABLE, artifacts_at

    artifacts, cache = os.environ.get(ARTIFACTS_VARIABLE), os.environ.get("AIFS_TUNE_CACHE")
    if not artifacts or not (is_url(artifacts) or Path(artifacts).is_absolute()):
        raise RequestError(
            f"{ARTIFACTS_VARIABLE}: {artifacts or 'not set'}; allowed: the absolute path of a folder that all nodes "
            "share, or the URL of an object store; checkpoints and weights go there"
        )
    location = artifacts_at(artifacts)
    if isinstance(location, Path):
        cache = cache or str(location / "cache")
    return {ARTIFACTS_VARIABLE: str(location)} | ({"AIFS_TUNE_CACHE": cache} if cache else {})

"""Commands that run, watch, stop and resume sweeps."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from aifs_tune.cli import cluster, files
from aifs_tune.cli.options import (
    AddressOption,
    AllowUnauthenticatedOption,
    DataOption,
    EpochsOption,
    FindJobAddressOption,
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
from aifs_tune.cli.result import out, print_result
from aifs_tune.errors import NotFoundError, RequestError
from aifs_tune.execution.timing import process_age_s

if TYPE_CHECKING:
    from aifs_tune.study.record import StudyRecord


def run(
    sweep: SweepArgument,
    data: DataOption = None,
    study: StudyOption = None,
    storage: StorageOption = None,
    trials: TrialsOption = None,
    epochs: EpochsOption = None,
    workers: WorkersOption = None,
    timeout: TimeoutOption = None,
    seed: SeedOption = None,
    address: AddressOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
    overrides: SetOption = None,
    warm_start: WarmStartOption = None,
    warm_start_storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Storage of the studies of --warm-start. Default: --storage.")
    ] = None,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish",
            help="If the study exists, finish the trials it was asked for and add none, so that the command may be "
            "repeated: in a job that a cluster starts again.",
        ),
    ] = False,
    strict: StrictOption = False,
    profile: Annotated[bool, typer.Option("--profile", help="Also print how the time was spent.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a sweep and print its best configuration."""
    from aifs_tune.execution.sweep import load_sweep

    ready = load_sweep(sweep, data=data, overrides=overrides or ())
    began = process_age_s()
    with files.progress_callback() as callback:
        result = ready.run(
            trials=trials,
            epochs=epochs,
            workers=workers,
            timeout_s=timeout,
            seed=seed,
            storage=storage,
            study=study,
            address=address,
            allow_unauthenticated=allow_unauthenticated,
            strict=strict,
            warm_start=warm_start or None,
            warm_start_storage=warm_start_storage,
            finish=finish,
            callback=callback,
        )
    result.profile.stages = {"start": began, **result.profile.stages}
    print_result(result, as_json, with_profile=profile)


def resume(
    study: StudyArgument,
    storage: StorageOption = None,
    workers: WorkersOption = None,
    timeout: TimeoutOption = None,
    address: AddressOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run the trials that a stopped sweep has left.

    With --address http://HEAD:8265 they run as a job of that Ray cluster.
    """
    from aifs_tune.execution import sweep

    if cluster.resume_as_job(study, storage, workers, timeout, address, allow_unauthenticated, as_json):
        return
    with files.progress_callback() as callback:
        result = sweep.resume(
            study,
            storage=storage,
            workers=workers,
            timeout_s=timeout,
            address=address,
            allow_unauthenticated=allow_unauthenticated,
            callback=callback,
        )
    print_result(result, as_json)


def status(
    study: StudyArgument,
    storage: StorageOption = None,
    address: FindJobAddressOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the progress of a study and the process that runs it.

    With --address it also shows the state of the job that runs the sweep on a Ray cluster; a job that has not made its
    study yet is shown alone.
    """
    from aifs_tune.cli.tables import render_status
    from aifs_tune.publishing.summary import no_status, status_summary

    found: StudyRecord | None = None
    try:
        found = open_local_study(study, storage)
    except NotFoundError:
        if address is None:
            raise
    answer = no_status(study) if found is None else status_summary(found)
    if address is not None:
        answer["job"] = cluster.job_summary(cluster.cluster_jobs(address, allow_unauthenticated).newest(study))
    if as_json:
        print_json(answer)
    else:
        out().print(render_status(answer))


def stop(
    study: StudyArgument,
    storage: StorageOption = None,
    address: FindJobAddressOption = None,
    allow_unauthenticated: AllowUnauthenticatedOption = False,
) -> None:
    """Stop a running sweep; resume continues it.

    Without --address it stops the sweep that runs on this machine.
    """
    import socket

    if address is not None:
        job = cluster.cluster_jobs(address, allow_unauthenticated).stop(study)
        echo_stderr(f"Asked job {job.id} to stop. Continue with: aifs-tune resume {study} --address {address}")
        return
    opened = open_local_study(study, storage)
    owner = opened.storage.lock(study).holder()
    if owner is None:
        raise RequestError(f"study {study!r}: no sweep is running")
    if owner.host != socket.gethostname():
        raise RequestError(f"study {study!r}: {owner} runs its sweep; stop it on that machine")
    try:
        os.kill(owner.pid, signal.SIGINT)
    except OSError as error:
        raise RequestError(f"study {study!r}: {owner} cannot be stopped from here ({error.strerror})") from error
    echo_stderr(f"Asked {owner} to stop. Continue with: aifs-tune resume {study}")

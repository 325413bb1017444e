"""Import of a folder of results that Ray Tune wrote. Its files of text are read; nothing is unpickled."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from aifs_tune._util.scalars import MAX_INT, Scalar, brief, did_you_mean, is_same
from aifs_tune.config.descriptors import read_descriptors
from aifs_tune.errors import NotFoundError, RequestError
from aifs_tune.space.define_by_run import choice_entry, choice_value, float_entry, int_entry, parameter_names
from aifs_tune.storage.projects import split_name
from aifs_tune.storage.storage import Storage
from aifs_tune.study.imported import ImportedTrial, create_study, curve_of, inferred_space
from aifs_tune.study.open import instrument_spec
from aifs_tune.study.study import Study

_STATE, _RESULT, _TABLE, _PARAMS, _ERROR = (
    "experiment_state-*.json",
    "result.json",
    "progress.csv",
    "params.json",
    "error.txt",
)
_ITERATION = "training_iteration"
_BOOKKEEPING = {
    "timestamp", "checkpoint_dir_name", "done", _ITERATION, "trial_id", "date", "time_this_iter_s", "time_total_s",
    "pid", "hostname", "node_ip", "config", "time_since_restore", "iterations_since_restore", "experiment_tag",
    "experiment_id", "should_checkpoint", "timesteps_total", "timesteps_since_restore", "episodes_total",
    "timesteps_this_iter", "episodes_this_iter", "warmup_time",
}  # fmt: skip
"""What Ray Tune adds to each result."""
_FEW = 12
"""Number of different values up to which repeated numbers are taken for choices."""
_LOG = 100.0
"""Ratio of the largest to the smallest value from which a range is searched on a logarithmic scale."""


def is_ray_tune_folder(folder: Path) -> bool:
    """Whether a folder has results of Ray Tune: the state of an experiment, or trials with results."""
    return folder.is_dir() and (any(folder.glob(_STATE)) or any(_is_trial(each) for each in folder.iterdir()))


def _is_trial(folder: Path) -> bool:
    has_results = (folder / _RESULT).is_file() or (folder / _TABLE).is_file() or (folder / _ERROR).is_file()
    return has_results and (folder / _PARAMS).is_file()


def import_ray_tune(
    folder: str | Path,
    *,
    metric: str | None = None,
    mode: Literal["max", "min"] | None = None,
    study: str | None = None,
    space: Mapping[str, Any] | None = None,
    storage: str | None = None,
) -> tuple[Study, dict[str, str]]:
    """Copy the results of an experiment of Ray Tune into a study, whose search continues from them.

    Results become epochs with all of their numbers; the value of a trial is that of its best epoch. Nested parameters
    get one name, such as ``net_layers``. The files are not changed.

    Parameters
    ----------
    folder
        Folder of the experiment, such as ``~/ray_results/NAME``.
    metric
        Name of the objective among the results. Default: that of the experiment, or the only number.
    mode
        ``max`` or ``min``. It must be given.
    study
        Name of the study, ``PROJECT/NAME`` in a project. Default: the name of the folder.
    space : mapping, optional
        Search space, as in :func:`aifs_tune.open_study`, with names as they are in the study. Default: from the
        smallest to the largest value of each number, all values of others; numbers with few values that are repeated
        are ordered choices, and a parameter that some trials lack has the condition that their other parameters show.
    storage : str, optional
        URL of the storage to copy into. Default: the storage that commands use without ``--storage``.

    Returns
    -------
    tuple of Study and dict
        The new study; and by name what was not copied, or is different, and why.

    Raises
    ------
    NotFoundError
        If the folder has no results of Ray Tune.
    RequestError
        If metric or mode is missing or unknown, or the search space cannot be read from the trials.
    ConflictError
        If the storage already has a study with this name.

    Examples
    --------
    >>> from pathlib import Path
    >>> for n, heat in enumerate((20, 55, 90)):
    ...     trial = Path(f"oven/trial_{n}")
    ...     trial.mkdir(parents=True)
    ...     _ = (trial / "params.json").write_text(f'{{"heat": {heat}}}')
    ...     _ = (trial / "result.json").write_text(f'{{"crust": {heat / 100}, "training_iteration": 1}}')
    >>> study, left_out = aifs_tune.import_ray_tune("oven", mode="max", storage="sqlite:///lab.db")
    >>> study.best.params, study.best.value
    ({'heat': 90}, 0.9)
    """
    source = Path(folder).expanduser()
    if not is_ray_tune_folder(source):
        raise NotFoundError(
            f"{folder}: no results of Ray Tune there; allowed: the folder of an experiment, with {_STATE} or folders "
            f"that have {_PARAMS} and {_RESULT}"
        )
    experiment = _Experiment(source)
    trials = experiment.trials()
    left_out = experiment.left_out
    wanted = _metric(metric or experiment.metric, trials)
    if mode is None:
        raise RequestError(f"mode: missing; allowed: max if a large {wanted} is good, min if a small one is")
    names = parameter_names(list(dict.fromkeys(name for trial in trials for name in trial.params)))
    left_out |= {f"the name {name!r}": f"is {own} here" for name, own in names.items() if own != name}
    configurations = [_configuration(trial, names, left_out) for trial in trials]
    found = _space(configurations, left_out) if space is None else read_descriptors(space)
    name = study or "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in source.resolve().name)
    objective = {"metric": wanted, "mode": mode}
    spec = instrument_spec(split_name(name)[1], {"space": found, "objective": objective})
    imported = [trial.imported(params) for trial, params in zip(trials, configurations, strict=True)]
    longest = max((len(trial.curve) for trial in imported), default=0)
    n_short = sum(trial.state == "complete" and len(trial.curve) < longest for trial in imported)
    if n_short:
        left_out["which trials a scheduler stopped"] = (
            f"Ray Tune does not write it: {n_short} with fewer epochs than the longest count as complete"
        )
    made = create_study(Storage(storage, create=True), name, spec, imported, {}, left_out)
    return made.as_study(), left_out


@dataclass
class _TuneTrial:
    """One trial as its files have it; ``params`` and metrics with flat names, ``written_at`` in seconds since 1970."""

    label: str
    is_failed: bool
    params: dict[str, Any]
    written_at: float
    steps: dict[int, dict[str, float]] = field(default_factory=dict)
    last: Mapping[str, Any] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None

    def imported(self, params: Mapping[str, Scalar]) -> ImportedTrial:
        host, pid = self.last.get("hostname"), self.last.get("pid")
        ended = _number(self.last.get("timestamp")) or self.written_at
        return ImportedTrial(
            label=self.label,
            state="failed" if self.is_failed else "complete",
            params=params,
            values=None,
            curve=curve_of(self.steps, self.seconds),
            notes=self.notes,
            reason=self.reason,
            worker=f"{host}:{pid}" if host else None,
            started_at=datetime.fromtimestamp(ended - sum(self.seconds.values()), UTC),
            finished_at=datetime.fromtimestamp(ended, UTC),
        )


class _Experiment:
    """The files of an experiment. ``left_out`` says by name what of them is not used."""

    def __init__(self, folder: Path) -> None:
        self.left_out: dict[str, str] = {}
        self.metric: str | None = None
        self._folder = folder
        self._known: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {}
        """State, parameters and last result by folder of the trial."""
        for file in sorted(folder.glob(_STATE))[-1:]:
            self._read_state(file)

    def _read_state(self, file: Path) -> None:
        """The state of each trial by its folder, and the metric, as far as the file is readable."""
        try:
            state = json.loads(file.read_text())
            metric = state.get("runner_data", {}).get("_metric")
            self.metric = metric if isinstance(metric, str) else None
            for entry in state.get("trial_data", ()):
                known = json.loads(entry[0] if isinstance(entry, list) else entry)
                folder = known.get("relative_logdir") or f"trial {known.get('trial_id')}, which has no folder"
                run = json.loads(entry[1]) if isinstance(entry, list) and len(entry) > 1 else {}
                params, last = known.get("config"), run.get("last_result")
                self._known[str(folder)] = (
                    str(known.get("status")),
                    params if isinstance(params, dict) else {},
                    last if isinstance(last, dict) else {},
                )
        except (OSError, ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
            self.left_out[file.name] = f"cannot be read ({error}); trials without {_ERROR} count as complete"

    def trials(self) -> list[_TuneTrial]:
        """The trials that have ended, in the order in which they were made."""
        folders = sorted((each for each in self._folder.iterdir() if each.is_dir()), key=self._order)
        found = []
        for folder in folders:
            status, _, last = self._known.get(folder.name, (None, {}, {}))
            if not (_is_trial(folder) or last):
                if status is not None:
                    self.left_out[folder.name] = f"is {status.lower()}, without results"
            elif status in (None, "TERMINATED", "ERROR"):
                is_failed = status == "ERROR" or (status is None and (folder / _ERROR).is_file())
                found.append(self._trial(folder, is_failed))
            else:
                self.left_out[folder.name] = f"is {status.lower()}"
        there = {folder.name for folder in folders}
        self.left_out |= {
            name: f"is {status.lower()}, without a folder"
            for name, (status, *_) in self._known.items()
            if name not in there
        }
        return found

    def _order(self, folder: Path) -> tuple[str, ...]:
        """Where a trial stands: by its id, which counts, in the name of its folder."""
        parts = folder.name.split("_")
        return tuple(part for part in parts[:4] if part) or (folder.name,)

    def _trial(self, folder: Path, is_failed: bool) -> _TuneTrial:
        params = self._json(folder / _PARAMS) if (folder / _PARAMS).is_file() else self._known[folder.name][1]
        trial = _TuneTrial(folder.name, is_failed, dict(_flat(params, ".")), folder.stat().st_mtime)
        trial.notes["ray_tune_folder"] = folder.name
        configurations = set()
        for n, result in enumerate(self._results(folder)):
            trial.last = result
            step = int(_number(result.get(_ITERATION)) or n + 1)
            metrics = dict(_flat({k: v for k, v in result.items() if k not in _BOOKKEEPING}, "/"))
            numbers = {name: value for name, each in metrics.items() if (value := _number(each)) is not None}
            for name, value in metrics.items():
                if name not in numbers and value not in (None, "") and not name.startswith("config/"):
                    self.left_out[f"the result {name}"] = f"is no number, such as {brief(value)}"
            trial.steps[step] = {name: value for name, value in numbers.items() if not name.startswith("config/")}
            trial.seconds[step] = _number(result.get("time_this_iter_s")) or 0.0
            configurations.add(json.dumps(result.get("config"), sort_keys=True, default=str))
        if len(configurations) > 1:
            self.left_out[f"{folder.name}: earlier parameters"] = "they changed while it trained; it has the last ones"
        if is_failed:
            trial.reason = _last_line(folder / _ERROR) or "failed in Ray Tune"
        if any(folder.glob("checkpoint_*")):
            self.left_out["checkpoints"] = "files of trials are not copied"
        return trial

    def _results(self, folder: Path) -> Iterator[dict[str, Any]]:
        if (folder / _RESULT).is_file():
            lines = (folder / _RESULT).read_text(errors="replace").splitlines()
            for n, line in enumerate(lines):
                try:
                    result = json.loads(line)
                except ValueError:
                    self.left_out[f"{folder.name}/{_RESULT}, line {n + 1}"] = "is not complete"
                    continue
                if isinstance(result, dict):
                    yield result
        elif (folder / _TABLE).is_file():
            with (folder / _TABLE).open(newline="", errors="replace") as file:
                yield from csv.DictReader(file)
        elif folder.name in self._known and (last := self._known[folder.name][2]):
            self.left_out[f"{folder.name}: earlier results"] = (
                f"there is no {_RESULT} and no {_TABLE}, only the last one"
            )
            yield last

    def _json(self, file: Path) -> dict[str, Any]:
        try:
            found = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise RequestError(
                f"{file}: cannot be read ({error}); allowed: the parameters of the trial as JSON"
            ) from None
        if not isinstance(found, dict):
            raise RequestError(f"{file}: {brief(found)} has no names; allowed: the parameters of the trial as JSON")
        return found


def _flat(given: Mapping[str, Any], joint: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, joint, f"{prefix}{name}{joint}")
        else:
            yield f"{prefix}{name}", value


def _number(value: Any) -> float | None:
    """A number of JSON or of a cell of a table; None for anything else."""
    if isinstance(value, bool) or value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _last_line(file: Path) -> str | None:
    lines = file.read_text(errors="replace").strip().splitlines() if file.is_file() else []
    return lines[-1].strip()[:1000] if lines else None


def _metric(wanted: str | None, trials: Sequence[_TuneTrial]) -> str:
    there = list(dict.fromkeys(name for trial in trials for metrics in trial.steps.values() for name in metrics))
    if not there:
        raise RequestError("no trial has results with a number; allowed: an experiment with results")
    if wanted is None and len(there) == 1:
        return there[0]
    if wanted is None or wanted not in there:
        what = "missing" if wanted is None else f"no trial reported {wanted!r}{did_you_mean(wanted, there)}"
        raise RequestError(f"metric: {what}; allowed: {', '.join(there)}")
    return wanted


def _configuration(trial: _TuneTrial, names: Mapping[str, str], left_out: dict[str, str]) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for name, value in trial.params.items():
        found[names[name]] = choice_value(value)
        if not is_same(found[names[name]], value):
            left_out[f"the values of {names[name]}"] = f"are texts here, such as {brief(found[names[name]])}"
    return found


def _space(configurations: Sequence[Mapping[str, Scalar]], left_out: dict[str, str]) -> dict[str, Any]:
    """The range of the values of each parameter, with its condition."""
    values: dict[str, list[Scalar]] = {}
    for params in configurations:
        for name, value in params.items():
            values.setdefault(name, []).append(value)
    entries = {name: _entry(of_it) for name, of_it in values.items()}
    if all(entry["type"] == "fixed" for entry in entries.values()):
        raise RequestError(
            "no parameter has different values in these trials, so the search space is not known; allowed: space={...}"
        )
    known = [name for name, entry in entries.items() if entry["type"] in ("float", "int")]
    if known:
        left_out[f"the ranges of {', '.join(known)}"] = "Ray Tune does not write them: they are those of the values"
    return inferred_space(entries, configurations)


def _entry(values: Sequence[Scalar]) -> dict[str, Any]:
    different = list(dict.fromkeys(values))
    numbers = [v for v in different if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(different) == 1 or len(numbers) < len(different):
        return choice_entry(different)
    low, high = min(numbers), max(numbers)
    is_whole = all(isinstance(v, int) and abs(v) < MAX_INT for v in numbers)
    gaps = {b - a for a, b in zip(sorted(numbers), sorted(numbers)[1:], strict=False)}
    if len(different) <= min(_FEW, len(values) // 2) and not (is_whole and gaps == {1}):
        return {"type": "choice", "choices": sorted(numbers), "ordered": True}
    log = low > 0 and high / low >= _LOG and math.isfinite(high / low)
    return int_entry(int(low), int(high), log=log) if is_whole else float_entry(float(low), float(high), log=log)

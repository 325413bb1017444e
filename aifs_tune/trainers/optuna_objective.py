"""Objectives of Optuna, ``def objective(trial): ...``: their space, their trials and their trainer.

A function whose only argument is ``trial`` is one. It gets an :class:`ObjectiveTrial`, which has the methods of
Optuna's ``Trial``. Its search space is read from what it asks for in a few recording runs.
"""

from __future__ import annotations

import ast
import inspect
import math
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from aifs_tune._util.scalars import Scalar, brief, is_same
from aifs_tune.errors import RequestError, TrainerError
from aifs_tune.space.define_by_run import (
    Run,
    choice_entry,
    choice_value,
    float_entry,
    int_entry,
    runs_to_try,
    space_of,
    words,
)
from aifs_tune.space.names import parameter_name
from aifs_tune.space.search_space import Parameter, Space
from aifs_tune.trainers.function import name_of
from aifs_tune.trainers.returned import as_float, read_returned
from aifs_tune.trainers.running_trial import RunningTrial, TrialFunctionTrainer

_SEED = 0
"""Seed of the recording runs."""


def is_objective(function: Any) -> bool:
    """Whether a callable is an objective of Optuna: its only argument is ``trial``."""
    bound = function.keywords if isinstance(function, partial) else {}
    try:
        names = [name for name in inspect.signature(function).parameters if name not in bound]
    except (TypeError, ValueError):
        return False
    return names == ["trial"] and not inspect.isclass(function)


def is_trial_pruned(error: BaseException) -> bool:
    """Whether an error is Optuna's ``TrialPruned``. Nothing is imported for that: who raised it has done so."""
    optuna = sys.modules.get("optuna")
    return optuna is not None and bool(isinstance(error, optuna.TrialPruned))


class ObjectiveTrial(RunningTrial):
    """The trial that an objective of Optuna gets: Optuna's ``Trial``, and what :class:`RunningTrial` has beside it.

    The package makes it; an objective is called with it.

    Parameters
    ----------
    values : mapping
        Value of each active parameter.
    space : Space, optional
        Search space of the study, with which the objective is compared.
    metric : str, optional
        Name of the objective; None if there are several.
    is_to_end : callable
        Whether the trial is to end now.

    Attributes
    ----------
    number : int
        Number of the trial in its study, from 0.
    params : dict
        Values of the parameters that were asked for so far, by the names that the objective gave them.
    user_attrs : dict
        What :meth:`set_user_attr` left; kept with the trial as its notes.

    Examples
    --------
    >>> def objective(trial):
    ...     x = trial.suggest_float("x", -10, 10)
    ...     trial.set_user_attr("sign", "+" if x >= 0 else "-")
    ...     return (x - 2) ** 2
    >>> result = aifs_tune.tune(objective, trials=5, mode="min", storage="sqlite:///lab.db")
    >>> sorted(result.best.params), result.best.notes["sign"] in ("+", "-")
    (['x'], True)
    """

    def __init__(
        self,
        values: Mapping[str, Scalar],
        *,
        space: Space | None,
        metric: str | None,
        is_to_end: Callable[[], bool],
        **running: Any,
    ) -> None:
        super().__init__({}, **running)
        self._values, self._space, self._metric, self._is_to_end = values, space, metric, is_to_end
        self._steps: set[int] = set()

    # -- parameters -------------------------------------------------------------------------------

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return the value of a float from ``low`` to ``high``, both included.

        Parameters
        ----------
        name, low, high, step, log
            As in Optuna: name of the parameter, its range, the distance between allowed values, and whether it is
            searched on a logarithmic scale.

        Returns
        -------
        float
            The proposed value.

        Raises
        ------
        TrainerError
            If the search space has no such parameter, or another range for it.
        """
        return float(self._suggested(name, float_entry(low, high, step=step, log=log)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return the value of an integer from ``low`` to ``high``, both included.

        Parameters
        ----------
        name, low, high, step, log
            As in :meth:`suggest_float`.

        Returns
        -------
        int
            The proposed value.

        Raises
        ------
        TrainerError
            As :meth:`suggest_float`.
        """
        return int(self._suggested(name, int_entry(low, high, step=step, log=log)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of several values, which may be any objects.

        Parameters
        ----------
        name, choices
            Name of the parameter, and its values. In the study, a value that is no text, number, True, False, None or
            list of these is known by its ``repr``.

        Returns
        -------
        object
            The proposed value, an element of ``choices``.

        Raises
        ------
        TrainerError
            As :meth:`suggest_float`.
        """
        value = self._suggested(name, choice_entry(choices))
        chosen = next(choice for choice in choices if is_same(choice_value(choice), value))
        self.params[name] = chosen
        return chosen

    def _suggested(self, name: str, entry: dict[str, Any]) -> Scalar:
        own = parameter_name(name)
        value = self._value(own, entry)
        self.params[name] = value
        return value

    def _value(self, name: str, entry: dict[str, Any]) -> Scalar:
        assert self._space is not None
        if name not in self._space or name not in self._values:
            what = "has no value in this trial" if name in self._space else "is not in the search space"
            raise TrainerError(
                f"{name}: asked for, but {what}: what the objective asks for differs from its recording runs; "
                "allowed: conditions on choices and small integers, or the whole search space as space={...}"
            )
        known = self._space[name]
        if not _is_range_of(known, entry):
            raise TrainerError(
                f"{name}: asked for {words(entry)}, but the search space of the study has {known.kind} "
                f"{known.range_text}; allowed: the same range in every trial; a changed function needs a new study"
            )
        return self._values[name]

    # -- results ----------------------------------------------------------------------------------

    def report(self, metrics: float | Mapping[str, Any], step: int | None = None) -> bool:
        """Report a value of the objective at a step.

        Each step becomes an epoch of the trial, in the order of the reports. The number of the step is kept as the
        metric ``step`` where it is not the number of steps before, or that plus one. A second report of a step is
        ignored, as in Optuna; a value that is NaN or infinite is a step without a value.

        Parameters
        ----------
        metrics
            Value of the objective; or metrics by name.
        step
            Number of the step, from 0. Default: the next one.

        Returns
        -------
        bool
            Whether to go on; :meth:`should_prune` says the same.
        """
        if self._metric is None:
            raise TrainerError(
                "trial.report: a study with several objectives has no steps; allowed: return all of them"
            )
        n = self.epoch + len(self._steps)
        at = n if step is None else int(step)
        if at < 0:
            raise TrainerError(f"trial.report: step {step} is negative; allowed: 0, 1, 2, ...")
        if at in self._steps:
            return not self._is_to_end()
        self._steps.add(at)
        told: dict[str, Any] = dict(metrics) if isinstance(metrics, Mapping) else {self._metric: metrics}
        value = as_float(told.get(self._metric), "trial.report:")
        if value is None and self._metric in told:
            raise TrainerError(f"trial.report: {brief(metrics)} is no number; allowed: a number")
        if value is not None and not math.isfinite(value):
            del told[self._metric]
        return self._send(told if at in (n, n + 1) else {**told, "step": at})

    def should_prune(self) -> bool:
        """Return whether the trial is to end now, because it promises little.

        Returns
        -------
        bool
            If True, the objective should raise ``optuna.TrialPruned``; its next report ends it in any case.
        """
        return self._is_to_end()

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep a value with the trial, as one of its notes.

        Parameters
        ----------
        key, value
            Name of the note, and any value that JSON can hold; the ``repr`` of others is kept.
        """
        self.log(**{key: value})

    @property
    def user_attrs(self) -> dict[str, Any]:
        """What :meth:`set_user_attr` left."""
        return dict(self.notes)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"trial.{name}: a trial of aifs_tune has no such attribute; of Optuna's Trial it has "
            f"{', '.join(_OF_OPTUNA)}"
        )


_OF_OPTUNA = (
    "number", "params", "report", "set_user_attr", "should_prune", "suggest_categorical", "suggest_float",
    "suggest_int", "user_attrs",
)  # fmt: skip


def _is_range_of(known: Parameter, entry: Mapping[str, Any]) -> bool:
    """Whether what an objective asks for is the range of a parameter of the space."""
    if known.type != entry["type"]:
        return False
    if known.type == "choice":
        return bool(list(known.choices) == entry["choices"])
    if known.type == "fixed":
        return is_same(known.value, entry["value"])
    step = entry.get("step", 1 if known.type == "int" else None)
    return (known.low, known.high, known.log, known.step) == (
        entry["low"],
        entry["high"],
        entry.get("log", False),
        step,
    )


class ObjectiveTrainer(TrialFunctionTrainer):
    """Trainer of an objective of Optuna: what it returns is the result of the trial, whatever it reported before."""

    def __init__(self, function: Callable[..., Any], *, space: Space, **options: Any) -> None:
        super().__init__(function, **options)
        self._space = space
        self.final: dict[str, float] | None = None
        """What the objective returned after its reports; None before."""
        self.pruned: str | None = None
        """What the objective said when it raised ``TrialPruned``; None if it did not."""

    def reset(self, params: Mapping[str, Scalar], *, seed: int) -> None:
        """Let the running objective end, and prepare a call with ``params``."""
        super().reset(params, seed=seed)
        self.final = self.pruned = None
        self._n_beyond = 0

    def _made_trial(self, params: Mapping[str, Scalar], seed: int) -> RunningTrial:
        metric = self._objectives[0] if len(self._objectives) == 1 else None
        return ObjectiveTrial(
            params, space=self._space, metric=metric, is_to_end=lambda: self._stopping, **self._running_options(seed)
        )

    def _arguments(self, seed: int) -> dict[str, Any]:
        return {"trial": self._trial}

    def _after_last_epoch(self) -> None:
        """Let the objective run to its end; what it reports on the way is no epoch any more."""
        self._took_returned(self._switch(True))

    def _took_returned(self, answer: Any) -> None:
        if self.pruned is None and not self._stopping:
            found = read_returned(_as_tuple(answer), self._objectives, name_of(self._function))
            self._trial.notes |= found.notes
            self.final = {name: value for name, value in found.metrics.items() if name in self._objectives}

    def _took(self, answer: Any) -> dict[str, float]:
        return super()._took(_as_tuple(answer))

    def _send(self, metrics: Any) -> bool:
        if self._n >= self._epochs:
            self._n_beyond += 1
            self._trial.notes["steps beyond epochs"] = self._n_beyond
            return False
        return super()._send(metrics)

    def _switch(self, goes_on: bool) -> Any:
        try:
            return super()._switch(goes_on)
        except Exception as error:
            if not is_trial_pruned(error):
                raise
            self.pruned = str(error) or "the objective raised TrialPruned"
            return None


def _as_tuple(answer: Any) -> Any:
    """A list of values as the tuple that means one value for each objective."""
    return tuple(answer) if isinstance(answer, list) else answer


# -- recording runs -----------------------------------------------------------------------------------


class _Stop(BaseException):
    """Ends a recording run; no ``except Exception`` of an objective catches it."""


class _RecordingTrial(ObjectiveTrial):
    """Notes what an objective asks for, and ends it at its first report or its last question."""

    def __init__(self, run: Run, folder: Path, n_questions: int | None) -> None:
        super().__init__(
            {},
            space=None,
            metric="value",
            is_to_end=lambda: False,
            seed=_SEED,
            epochs=1,
            number=0,
            folder=folder,
            send=self._stop,
            judge=lambda _: False,
            wrote_checkpoint=lambda: None,
        )
        self._run, self._n_questions = run, n_questions
        self.names: dict[str, str] = {}

    def _value(self, name: str, entry: dict[str, Any]) -> Scalar:
        return self._run.ask(name, entry)

    def _suggested(self, name: str, entry: dict[str, Any]) -> Scalar:
        other = self.names.setdefault(parameter_name(name), name)
        if other != name:
            raise RequestError(
                f"{brief(other)} and {brief(name)} would both be called {parameter_name(name)}; allowed: names that "
                "differ in letters and digits"
            )
        value = super()._suggested(name, entry)
        if len(self._run.entries) == self._n_questions:
            raise _Stop
        return value

    def _stop(self, _metrics: Any) -> bool:
        raise _Stop


def read_space(function: Callable[..., Any], tell: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Find the search space of an objective of Optuna, by running it until it has asked for its parameters.

    An objective whose source shows that it always asks for the same parameters runs once, up to the last of them. Any
    other one runs once with each value of each choice and small integer, each time up to its first report or its end.

    Parameters
    ----------
    function
        The objective.
    tell
        Told what was run, if a run went further than to the last parameter.

    Returns
    -------
    dict
        The search space as in a sweep file; what depends on earlier parameters has ``when``.

    Raises
    ------
    RequestError
        If it asks for nothing, or for what no search space can express; names the parameter and what to do.

    Examples
    --------
    >>> def objective(trial):
    ...     kind = trial.suggest_categorical("kind", ["tree", "net"])
    ...     return trial.suggest_int("depth", 1, 40) if kind == "tree" else 0
    >>> space = aifs_tune.trainers.read_space(objective, print)  # doctest: +ELLIPSIS
    objective ran ... times, each up to its first report or its end, to find its search space. ...
    >>> space["depth"]
    {'type': 'int', 'low': 1, 'high': 40, 'when': {'kind': ['tree']}}
    """
    n_questions = _n_always_asked(function)
    first = Run()
    problem = _record(function, first, n_questions)
    if not first.entries:
        why = f"it raised {type(problem).__name__}: {problem}" if problem else "it called no trial.suggest_..."
        raise RequestError(
            f"{name_of(function)}: asks for no parameter ({why}); allowed: trial.suggest_float and others"
        )
    if n_questions is not None and len(first.entries) == n_questions:
        return space_of([first])
    runs, failed = [first], problem
    for run in runs_to_try(first):
        failed = _record(function, run, None) or failed
        runs.append(run)
    what = (
        f"{name_of(function)} ran {len(runs)} times, each up to its first report or its end, to find its search space"
    )
    if failed is not None:
        what += f"; one run raised {type(failed).__name__}: {failed}, so parameters that follow may be missing"
    tell(f"{what}. Give the space as space={{...}} to save that")
    return space_of(runs)


def _record(function: Callable[..., Any], run: Run, n_questions: int | None) -> Exception | None:
    """Make one recording run; return the error with which the objective ended, if any."""
    with tempfile.TemporaryDirectory(prefix="aifs_tune_trial_") as folder:
        try:
            function(trial=_RecordingTrial(run, Path(folder), n_questions))
        except _Stop:
            return None
        except RequestError:
            raise
        except Exception as error:  # noqa: BLE001 - a user's code may raise anything
            return None if is_trial_pruned(error) else error
    return None


def _n_always_asked(function: Callable[..., Any]) -> int | None:
    """Number of parameters that an objective asks for in any case; None if its source does not say so.

    It says so if it uses ``trial`` in no other way than ``trial.name``, and each ``trial.suggest_...`` with a name that
    is a text stands outside of conditions, loops and inner functions, with a range that depends on none of the others.
    """
    while isinstance(function, partial):
        function = function.func
    with suppress(OSError, TypeError, SyntaxError, ValueError):
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        if isinstance(tree, ast.FunctionDef):
            found = _Questions()
            for statement in tree.body:
                found.visit(statement)
            return len(found.names) if found.is_plain and found.names else None
    return None


_MAY_NOT_RUN = (
    ast.If, ast.IfExp, ast.BoolOp, ast.For, ast.While, ast.Try, ast.Match, ast.Lambda, ast.FunctionDef, ast.ClassDef,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.AsyncFunctionDef, ast.Return,
)  # fmt: skip


class _Questions(ast.NodeVisitor):
    """Finds the names that an objective asks for, and whether it asks for them in any case."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.is_plain = True
        self._depth = 0
        self._may_have_ended = False
        self._of_answers = {"trial"}  # names whose value may depend on what the objective was told

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Call) and self._is_question(node.func):
            named = node.args[0] if node.args else None
            name = named.value if isinstance(named, ast.Constant) else None
            ranges = [*node.args[1:], *(keyword.value for keyword in node.keywords)]
            is_fixed = isinstance(name, str) and not any(map(self._depends, ranges))
            if self._depth or self._may_have_ended or not is_fixed:
                self.is_plain = False
            else:
                self.names.add(parameter_name(str(name)))
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and self._depends(node.value):
            named_here = (each for each in ast.walk(node) if isinstance(each, ast.Name))
            self._of_answers |= {each.id for each in named_here if isinstance(each.ctx, ast.Store)}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "trial":
            return
        if isinstance(node, ast.Name) and node.id == "trial":
            self.is_plain = False
        is_deeper = isinstance(node, _MAY_NOT_RUN) and not isinstance(node, ast.Return)
        self._depth += is_deeper
        self.generic_visit(node)
        self._depth -= is_deeper
        self._may_have_ended = self._may_have_ended or isinstance(node, ast.Return | ast.Raise)

    def _depends(self, expression: ast.AST | None) -> bool:
        """Whether a value may be another one where the objective is told other parameters."""
        names = () if expression is None else ast.walk(expression)
        return any(isinstance(each, ast.Name) and each.id in self._of_answers for each in names)

    @staticmethod
    def _is_question(called: ast.AST) -> bool:
        if not (isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name)):
            return False
        return called.value.id == "trial" and called.attr.startswith("suggest_")

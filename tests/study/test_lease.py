"""Trials that are handed out for hours or days: leases that run out, results that come late, batches that differ."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import optuna
import pytest
from records import open_record

from aifs_tune._util.clock import MonotonicClock
from aifs_tune.config.trusted_code import trust
from aifs_tune.errors import ConflictError, RequestError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.study.lease import MAX_LEASES, Lease, lease_s_of
from aifs_tune.study.open import instrument_spec, open_study, start_study
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import selected

HOUR = 3600.0
SQUARE = {"x": {"type": "float", "low": 0.0, "high": 1.0}, "y": {"type": "float", "low": 0.0, "high": 1.0}}


class Clock:
    """Stands still until it is moved."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request, tmp_path, clock) -> Callable[..., StudyRecord]:
    """Opens the study ``lab``, each time as another process would."""
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if postgres else f"sqlite:///{tmp_path}/lab.db"

    def opened(sampler: str = "random") -> StudyRecord:
        spec = instrument_spec(
            "lab", {"space": SQUARE, "objective": {"metric": "value"}, "search": {"sampler": sampler}}
        )
        return start_study(Storage(url, create=True, clock=clock), spec, "lab")

    return opened


def test_what_is_handed_out_says_to_whom_and_until_when(opened, clock):
    study = opened()
    trial = study.ask(label="A-17", owner="furnace-2", lease_s=3 * 24 * HOUR)
    stored = opened().trial(trial)
    assert stored.lease == trial.lease
    assert (stored.lease.label, stored.lease.owner, stored.lease.is_overdue) == ("A-17", "furnace-2", False)
    assert stored.lease.due_at.timestamp() == clock.now + 3 * 24 * HOUR
    told = study.tell(trial, 0.5)
    assert (told.state, told.lease.label) == ("complete", "A-17"), "whose sample it was stays known"
    assert study.ask().lease is None
    assert Lease.from_json(stored.lease.to_json()) == stored.lease
    batch = study.ask_batch(2, labels=["B-1", "B-2"], owner="robot")
    assert [(t.lease.label, t.lease.owner, t.lease.due_at) for t in batch] == [
        ("B-1", "robot", None),
        ("B-2", "robot", None),
    ]
    clock.advance(10_000 * HOUR)
    assert selected(study.all_trials(), is_overdue=True) == [], "who said nothing of a lease has it for good"
    assert [t.number for t in selected(study.all_trials(), owner="robot", state="running")] == [2, 3]
    assert [t.number for t in selected(study.all_trials(), label="A-17")] == [0]
    table = study.trials
    assert list(table["label"].dropna()) == ["A-17", "B-1", "B-2"]
    assert str(table["due_at"].dtype) == "datetime64[us, UTC]"


def test_a_late_result_is_welcome(opened, clock):
    study = opened()
    trial = study.ask(lease_s=2 * HOUR)
    clock.advance(2 * HOUR - 1)
    assert not study.trial(trial).lease.is_overdue
    clock.advance(1)
    assert study.trial(trial).lease.is_overdue
    assert [t.number for t in selected(opened().all_trials(), is_overdue=True)] == [trial.number]
    assert (study.trial(trial).state, study.counts()["running"]) == ("running", 1)
    late = study.tell(trial, 0.5)
    assert (late.state, late.value, late.lease.is_overdue) == ("complete", 0.5, False)


def test_a_configuration_that_is_overdue_is_handed_out_again_as_another_trial(opened, clock):
    study = opened()
    first = study.ask(label="A-17", owner="furnace-2", lease_s=HOUR)
    study.report(first, 1, {"value": 0.125})
    clock.advance(2 * HOUR)
    again = study.ask(label="C-3", owner="furnace-1", lease_s=HOUR)
    assert (again.params, again.number, again.lease.supersedes) == (first.params, 1, 0)
    assert (again.lease.label, again.lease.owner, again.epochs) == ("C-3", "furnace-1", 0)
    old = opened().trial(0)
    assert (old.state, old.superseded_by, old.epochs) == ("failed", 1, 1)
    assert old.reason == "its lease ran out; superseded by trial 1"
    for write in (
        lambda: study.tell(0, 0.5),
        lambda: study.report(0, 2, {"value": 0.5}),
        lambda: study.renew(0, HOUR),
        lambda: study.tell(0, state="pruned"),
    ):
        with pytest.raises(ConflictError, match=r"superseded by trial 1 .* as a new trial with the params \{"):
            write()
    assert study.attach(first.params, 0.5).value == 0.5, "and so the late result is kept"
    assert study.tell(0, state="failed", reason="gave up").superseded_by == 1, "that it failed, everybody agrees"
    assert study.tell(again, 0.25).state == "complete"
    assert study.ask().params != first.params


def test_what_waits_is_handed_out_before_what_is_overdue(opened, clock):
    study = opened()
    study.ask(lease_s=HOUR)
    second = study.ask(lease_s=2 * HOUR)
    clock.advance(3 * HOUR)
    queued = study.enqueue({"x": 0.5, "y": 0.5})
    assert study.ask().number == queued.number
    assert [study.ask(lease_s=HOUR).lease.supersedes for _ in range(2)] == [0, second.number]
    assert study.ask().lease is None


def test_a_lease_is_renewed_by_hand_and_by_what_is_reported(opened, clock):
    study = opened()
    trial = study.ask(label="A-17", lease_s=HOUR)
    for _ in range(3):
        clock.advance(0.75 * HOUR)
        study.report(trial, 1, {"value": 0.5})
    assert not study.trial(trial).lease.is_overdue
    clock.advance(HOUR)
    assert study.trial(trial).lease.is_overdue
    renewed = study.renew(trial)
    assert (renewed.lease.is_overdue, renewed.lease.label) == (False, "A-17")
    assert study.renew(trial, 24 * HOUR).lease.due_at.timestamp() == clock.now + 24 * HOUR
    clock.advance(23 * HOUR)
    assert study.ask().params != trial.params
    unlimited = study.ask()
    with pytest.raises(ConflictError, match="has no lease to extend"):
        study.renew(unlimited)
    assert study.renew(unlimited, HOUR).lease.lease_s == HOUR
    study.tell(trial, 0.5)
    with pytest.raises(ConflictError, match="is complete"):
        study.renew(trial, HOUR)


def test_what_nobody_brings_back_is_not_handed_out_for_ever(opened, clock):
    study = opened()
    params = study.ask(lease_s=HOUR).params
    for n in range(1, MAX_LEASES):
        clock.advance(2 * HOUR)
        assert (study.ask(lease_s=HOUR).params, study.trial(n).lease.supersedes) == (params, n - 1)
    clock.advance(2 * HOUR)
    assert study.ask().params != params
    last = study.trial(MAX_LEASES - 1)
    assert (last.state, last.lease.is_overdue) == ("running", True)
    assert study.tell(last, 0.5).value == 0.5


def test_a_trial_that_waits_again_is_nobodys(opened, clock):
    study = opened()
    trial = study.ask(owner="furnace-2", lease_s=HOUR)
    study.requeue(trial)
    clock.advance(2 * HOUR)
    assert not study.trial(trial).lease.is_overdue
    again = study.ask()
    assert (again.number, again.lease) == (trial.number, None)


def test_what_was_superseded_is_so_for_every_process_or_for_none(opened, clock):
    study = opened()
    study.ask(lease_s=HOUR)
    clock.advance(2 * HOUR)

    def asked() -> None:
        study.ask()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        study.transact(asked)
    assert [(t.state, t.superseded_by) for t in opened().all_trials()] == [("running", None)]


class Spy(optuna.samplers.RandomSampler):
    """Writes down which trials it knows of."""

    saw: tuple[set[int], set[int]] = (set(), set())

    def sample_relative(self, study, trial, search_space):
        running = study.get_trials(states=[optuna.trial.TrialState.RUNNING])
        failed = study.get_trials(states=[optuna.trial.TrialState.FAIL])
        type(self).saw = {t.number for t in running} - {trial.number}, {t.number for t in failed}
        return super().sample_relative(study, trial, search_space)


def test_the_sampler_does_not_wait_for_what_is_overdue(opened, clock):
    trust(["test_lease:Spy"])
    study = opened("test_lease:Spy")
    study.ask(lease_s=HOUR)
    study.ask(lease_s=10 * HOUR)
    study.ask()
    study.tell(2, state="failed")
    study.ask()
    assert Spy.saw == ({0, 1}, {2})
    clock.advance(2 * HOUR)
    assert study.ask().lease.supersedes == 0
    study.ask()
    assert Spy.saw == ({1, 3, 4}, {2}), "what was superseded is no failure of its configuration"
    last = 1
    for _ in range(MAX_LEASES - 1):
        clock.advance(10 * HOUR)
        last = study.ask(lease_s=HOUR).number
    assert study.ask().number == last + 1
    assert last in Spy.saw[0]
    clock.advance(2 * HOUR)
    study.ask()
    assert last not in Spy.saw[0]


@pytest.mark.parametrize("sampler", ["aifs", "tpe"])
def test_the_trials_of_a_batch_keep_away_from_each_other(sampler, tmp_path):
    """Each is proposed while those before it are pending, so that no two are nearer than a fiftieth of the ranges."""
    study = open_study("lab", space=SQUARE, storage=f"sqlite:///{tmp_path}/lab.db", sampler=sampler)
    rng = np.random.default_rng(0)
    for _ in range(16):
        x, y = rng.random(2)
        study.attach({"x": x, "y": y}, -((x - 0.3) ** 2) - (y - 0.6) ** 2 + 0.1 * rng.standard_normal())

    at = np.array([[t.params["x"], t.params["y"]] for t in study.ask_batch(8)])
    apart = np.linalg.norm(at[:, None] - at[None], axis=2) + 10 * np.eye(len(at))
    assert apart.min() > 0.02


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("12h", 43200), ("3d", 259200), ("2w", 1209600), ("1.5h", 5400)]
)
def test_a_lease_is_typed_with_its_unit(text, seconds):
    assert lease_s_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "3", "d", "3 d", "-3d", "3y", "1e3s", "0s", "0.5s", "367d", "nan", "99999999999w"]
)
def test_what_is_no_lease_is_refused(text):
    with pytest.raises(RequestError, match=r"lease: .*allowed"):
        lease_s_of(text)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lease_s": 0.0}, "lease"),
        ({"lease_s": float("nan")}, "lease"),
        ({"lease_s": float("inf")}, "lease"),
        ({"label": ""}, "label"),
        ({"label": "a\nb"}, "label"),
        ({"owner": "x" * 201}, "owner"),
    ],
)
def test_a_wrong_loan_is_refused_and_nothing_is_handed_out(given, said, tmp_path):
    spec = instrument_spec("lab", {"space": SQUARE, "objective": {"metric": "value"}})
    study = start_study(Storage(f"sqlite:///{tmp_path}/lab.db", create=True), spec, "lab")
    with pytest.raises(RequestError, match=said):
        study.ask(**given)
    with pytest.raises(RequestError, match="labels: 1 for 2"):
        study.ask_batch(2, labels=["one"])
    assert study.all_trials() == []


def test_the_clock_is_not_the_one_that_people_set():
    wall, counted = [1000.0], [5.0]
    clock = MonotonicClock(lambda: wall[0], lambda: counted[0])
    counted[0] += 60.0
    wall[0] += 3660.0  # an hour too many
    assert clock() == 1060.0
    wall[0] = -7200.0
    assert clock() == 1060.0
    assert abs(MonotonicClock()() - time.time()) < 5.0


def test_studies_of_earlier_releases_have_nothing_lent(tmp_path, space):
    url = f"sqlite:///{tmp_path}/old.db"
    study = open_record("old", space=space, storage=url)
    study.ask(sweep="one")
    assert get_study(Storage(url), "old").trial(0).lease is None

"""What is said of trials that failed."""

from __future__ import annotations

import pytest

from aifs_tune import open_study
from aifs_tune.errors import NotFoundError
from aifs_tune.study.failures import commonest_failure

SPACE = {"x": {"type": "float", "low": 0.0, "high": 1.0}}


@pytest.fixture
def study(tmp_path):
    return open_study("lab", space=SPACE, storage=f"sqlite:///{tmp_path}/lab.db")


def test_the_commonest_reason_is_named_where_there_is_no_best(study, run):
    assert commonest_failure(study.all_trials()) is None
    with pytest.raises(NotFoundError, match=r"has no complete trial yet; its trials: none$"):
        study.best_trials(1)
    for i in range(5):
        reason = f"OSError: /data/lab/{i}.fits\nis missing" if i else "the lid was open"
        study.tell(study.ask(), state="failed", reason=reason)
    said = "4 of 5 failed trials: OSError: /data/lab/1.fits is missing (trial 1)"
    with pytest.raises(NotFoundError) as raised:
        study.best_trials(1)
    assert str(raised.value).endswith(f"; its trials: 5 failed; {said}")
    told = run("status", "lab", "--storage", study.storage.url)
    assert said in " ".join(told.out.split())
    told = run("best", "lab", "--storage", study.storage.url)
    assert (told.code, said in told.err) == (2, True)


def test_a_long_reason_is_cut(study):
    study.tell(study.ask(), state="failed", reason="x" * 5000)
    said = commonest_failure(study.all_trials())
    assert said is not None
    assert (len(said) < 350, said.endswith("... (trial 0)")) == (True, True)

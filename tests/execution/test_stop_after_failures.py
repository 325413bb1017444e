"""A sweep in which every trial fails alike ends early; one with a success does not."""

from __future__ import annotations

import pytest

from aifs_tune.config.loading import parse_sweep
from aifs_tune.execution.callbacks import NullCallback
from aifs_tune.execution.memory_tracking import ResourceMonitor
from aifs_tune.execution.ray.searcher import StudySearcher
from aifs_tune.execution.timing import Profile
from aifs_tune.storage.storage import Storage
from aifs_tune.study.open import start_study

ALIKE = [f"ValueError: no file /data/{i}.fits" for i in range(6)]


class Lines(NullCallback):
    def __init__(self):
        self.lines = []

    def on_status(self, text):
        self.lines.append(text)


class NoWeights:
    def ended(self, trial): ...


def play(tmp_path, ends, **search):
    """End trials of a searcher one after another; the number that were handed out, and what was said."""
    spec = parse_sweep(
        {
            "name": "lab",
            "objective": {"metric": "value"},
            "space": {"x": {"type": "float", "low": 0, "high": 1}},
            "search": {"sampler": "random", **search},
        }
    )
    study = start_study(Storage(f"sqlite:///{tmp_path}/lab.db", create=True), spec, "lab", with_default=False)
    told = Lines()
    searcher = StudySearcher(study, "sweep", NoWeights(), told, ResourceMonitor(Profile(), told))
    for n, end in enumerate(ends):
        if searcher.suggest(str(n)) == "FINISHED":
            return n, told.lines, study
        number = searcher.running[str(n)].number
        if isinstance(end, str):
            searcher.fail(str(n), end)
        else:
            searcher._ended(str(n), study.tell(number, end))
    return len(ends), told.lines, study


def test_five_trials_that_fail_alike_end_the_sweep(tmp_path):
    n, lines, study = play(tmp_path, ALIKE)
    assert n == 5
    said = (
        "No further trial is started: 5 trials failed alike and none succeeded (search.stop_after_failures). The last"
    )
    assert len(lines) == 1
    assert lines[0].startswith(said)
    assert lines[0].endswith("/data/4.fits")
    assert study.notices[-1]["text"] == lines[0]


@pytest.mark.parametrize(
    ("ends", "search"),
    [
        ([*ALIKE[:2], 0.5, *ALIKE], {}),
        ([f"{kind}Error: once" for kind in "abcdef"], {}),
        (ALIKE, {"stop_after_failures": None}),
        (ALIKE, {"stop_after_failures": 7}),
    ],
    ids=["one succeeded", "other reasons", "never", "later"],
)
def test_others_go_on(tmp_path, ends, search):
    n, lines, _ = play(tmp_path, ends, **search)
    assert (n, lines) == (len(ends), [])


def test_fewer_may_be_enough(tmp_path):
    assert play(tmp_path, ALIKE, stop_after_failures=2)[0] == 2

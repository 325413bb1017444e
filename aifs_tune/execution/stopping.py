"""Ends of a sweep that it decides itself: nothing more to gain, or trials that all fail alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from aifs_tune.study.failures import normalised
from aifs_tune.study.record import StudyRecord
from aifs_tune.study.trial import Trial


class SweepEnd:
    """Decides whether a sweep starts no further trial; ``tell`` says why to the person, ``notice`` keeps it too."""

    def __init__(self, study: StudyRecord, tell: Callable[[str], None], notice: Callable[[str], None]) -> None:
        self._study, self._tell, self._notice = study, tell, notice
        self._stops = study.spec.search.stop == "gain_below_noise"
        self._failed_alike: Counter[str] | None = Counter()
        """Number of failed trials by reason; None once a trial has succeeded."""
        self.is_reached = False
        """Whether the sweep has ended by itself: a further trial is expected to gain less than the noise, or all trials
        fail alike."""

    def look(self) -> bool:
        """Whether no further trial is to start."""
        if self._stops and not self.is_reached:
            recommendation = self._study.recommendation()
            self.is_reached = recommendation.should_stop
            if recommendation.should_stop:
                self._tell(f"No further trial. {recommendation.reason}")
        return self.is_reached

    def ended(self, trial: Trial) -> None:
        """Look at a trial that has ended: the sweep ends once :attr:`SearchSpec.stop_after_failures` trials have failed
        alike and none succeeded."""
        limit = self._study.spec.search.stop_after_failures
        if trial.state != "failed" or trial.feasible is False:
            self._failed_alike = None
        if self._failed_alike is None or limit is None:
            return
        self._failed_alike[normalised(trial.reason)] += 1
        if self._failed_alike.most_common(1)[0][1] >= limit and not self.is_reached:
            self.is_reached = True
            self._notice(
                f"No further trial is started: {limit} trials failed alike and none succeeded "
                f"(search.stop_after_failures). The last one: {trial.reason}"
            )

"""Environment variables that make Ray and TensorFlow quiet; values set by the user take precedence."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SETTINGS = {
    "KERAS_BACKEND": "tensorflow",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a user's trainer reads files in the current folder of the command
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # long messages of the raylet on dead workers; the trial has the reason
    "RAY_USAGE_STATS_ENABLED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the study has all results
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial reports no objective
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # Tune's own state is never restored
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "2",  # above 1 it calls TrialTrainable.train_buffered, which has its own limit
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def quieten() -> None:
    """Set :data:`SETTINGS` in the environment, which local workers inherit."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


@contextmanager
def silence_stderr() -> Iterator[None]:
    """Discard everything that is written to this process's stderr, such as TensorFlow's messages at import."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)

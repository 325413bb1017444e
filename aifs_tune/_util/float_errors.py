"""What NumPy does at a division by zero, an overflow or an underflow."""

from __future__ import annotations

import numpy as np


def usual_float_errors() -> np.errstate:
    """NumPy's own defaults within the context, whatever the caller's program has set with ``numpy.seterr``.

    The models of the search rely on them: a tiny probability becomes 0.
    """
    return np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")

"""Other trainers that a tuned network has to beat on the same data, and what each baseline can learn from."""

from __future__ import annotations

from typing import Any

from aifs_tune.config.sweep import SweepSpec
from aifs_tune.errors import RequestError

_ROWS = ("table", "series", "frames")
OF_KIND = {
    "trees": ("table",),
    "plain": _ROWS,
    "ridge": _ROWS,
    "forest": ("images",),
    "cnn": ("images",),
    "linear": _ROWS,
}
"""What each baseline can learn from; those that are not here take what the trainer of the sweep does."""

OF_BOTH = ("file", "trainer", "plain")
"""The baselines that can learn classes and numbers together."""


def check_baseline(name: str, kind: str, *, both: bool = False) -> None:
    """Refuse a baseline that cannot learn from data of this kind, or not classes and numbers together if ``both``.

    Raises
    ------
    RequestError
        If it cannot.
    """
    kinds = OF_KIND.get(name, (kind,))
    if kind not in kinds:
        others = [one for one in ("file", "trainer", *OF_KIND) if kind in OF_KIND.get(one, (kind,))]
        raise RequestError(
            f"--baseline: {name} learns from {' or '.join(kinds)}, the sweep from {kind}; allowed: {', '.join(others)}"
        )
    if both and name not in OF_BOTH:
        allowed = ", ".join(OF_BOTH)
        raise RequestError(f"--baseline: {name} cannot learn classes and numbers together; allowed: {allowed}")


def other_trainer(name: str, spec: SweepSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same question put to another trainer, and its parameters: ``trees``, ten an epoch, or ``cnn``, the published
    network at a learning rate of 1e-3."""
    trainer, params = {"trees": ("boosting", {"trees": 10}), "cnn": ("cnn", {"learning_rate": 1e-3})}[name]
    told = spec.model_dump(mode="json")
    kept = {key: told[key] for key in ("version", "name", "data", "objective")}
    how = {key: told["trainer"][key] for key in ("patience", "class_weights")}
    search = {"epochs": told["search"]["epochs"]}
    return {**kept, "trainer": {"name": trainer, **how}, "search": search, "space": params}, params

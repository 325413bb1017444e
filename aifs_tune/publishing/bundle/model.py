"""The model in a bundle, and of a study."""

from __future__ import annotations

from pathlib import Path

from aifs_tune.analysis.model import Model, UserModel, model_in, model_of_study
from aifs_tune.errors import NotFoundError, RequestError
from aifs_tune.publishing.bundle.files import FINAL_MODEL
from aifs_tune.publishing.bundle.load import open_bundle
from aifs_tune.publishing.bundle.ro_crate import METADATA


def load_model(study: str | Path, *, storage: str | None = None, trial: int | None = None) -> Model | UserModel:
    """Load the model of a study or of a bundle, to predict and explain new examples.

    This is the final model that ``finalize`` made, or the model of the best trial if there is none.

    Parameters
    ----------
    study : str or Path
        Name of the study, or the folder of a bundle, of which every file is compared with its SHA-256.
    storage : str, optional
        Storage of the study. Default: ``$AIFS_TUNE_STORAGE``, else ``sqlite:///aifs_tune.db``.
    trial : int, optional
        Number of a trial of the study whose model to take instead.

    Returns
    -------
    Model or UserModel
        The model, ready to predict.

    Raises
    ------
    NotFoundError
        If there is no such study, or no weights of the trial are kept.
    RequestError
        If the study has no trainer, or one that keeps no model.
    DamagedError
        If the stored weights or the bundle have changed.

    Examples
    --------
    >>> study = aifs_tune.open_study("furnace", space={"heat": {"type": "float", "low": 600, "high": 1400}})
    >>> try:
    ...     aifs_tune.load_model("furnace")
    ... except aifs_tune.AifsTuneError as error:
    ...     print(error)
    Study 'furnace' has no trainer, so it has no model; allowed: a study of a sweep
    """
    folder = Path(study)
    if isinstance(study, str) and not (folder / METADATA).is_file():
        return model_of_study(study, storage=storage, trial=trial)
    if trial is not None:
        raise RequestError(f"trial: {trial} is not allowed with a bundle, which holds one model; allowed: none")
    return _model_of_bundle(folder)


def _model_of_bundle(folder: Path) -> Model | UserModel:
    bundle = open_bundle(folder)
    if (final := bundle.results.get("final_model")) is not None:
        folders = [folder / FINAL_MODEL / str(number) / "weights" for number in range(len(final["members"]))]
        if folders and all(each.is_dir() for each in folders):
            return model_in(str(final["name"]), bundle.spec, folders, bundle.name)
    if bundle.weights is None:
        raise NotFoundError(f"{folder}: this bundle has no model; its README.md says why")
    return model_in(f"trial {bundle.results['best']['trial']}", bundle.spec, (bundle.weights,), bundle.name)

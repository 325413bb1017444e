"""Model of a study that predicts new examples: its final model, else the model of its best trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aifs_tune._util.packages import missing_packages_named
from aifs_tune.analysis.final_model import FINAL, FinalModel, find_final_model, read_final_model
from aifs_tune.artifacts.trial_artifacts import kept_weights
from aifs_tune.config.data import DataSpec
from aifs_tune.config.sweep import SweepSpec
from aifs_tune.data.images.folder import SkippedFile
from aifs_tune.data.new_files import Preparation, files_in
from aifs_tune.errors import DataError, RequestError, TrainerError
from aifs_tune.storage.storage import Storage
from aifs_tune.study.index import get_study
from aifs_tune.trainers.factory import find_trainer_entry
from aifs_tune.trainers.function import MAIN, import_function
from aifs_tune.trainers.keras_files import MODEL_NAME, KerasModel, read_inputs
from aifs_tune.trainers.predictions import Predictions, point_predictions
from aifs_tune.trainers.sklearn_files import LoadedEstimator, load_estimator
from aifs_tune.trainers.trees import BOOSTING, LoadedTrees, load_trees

if TYPE_CHECKING:
    import pandas

    from aifs_tune.analysis.explanation import Explanations
    from aifs_tune.data.examples import Target
    from aifs_tune.trainers.load import LoadedNetwork


Member: TypeAlias = "LoadedNetwork | LoadedTrees | LoadedEstimator"


@dataclass(frozen=True)
class Answers:
    """Predictions of files.

    Parameters
    ----------
    table
        One row for each example: ``file``, then for classes the likeliest ``class`` and the probability ``p_NAME`` of
        each class where the model gives probabilities, and for numbers a column of each target in its unit.
    skipped
        Files that could not be read, with the reasons.
    remarks
        What in the files differs from the training data.
    """

    table: pandas.DataFrame
    skipped: tuple[SkippedFile, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class UserModel:
    """Keras model of a study whose trainer is a user's own :class:`~aifs_tune.trainers.KerasTrainer`.

    :func:`aifs_tune.load_model` makes it.

    Parameters
    ----------
    name
        What it is, such as ``trial 7``.
    member
        The trained model.
    read
        The trainer's reader of files; None if it has none.
    """

    name: str
    member: KerasModel
    read: Callable[[Path], Any] | None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that it predicts; empty if they are not known."""
        return self.member.classes

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs of the model.

        Parameters
        ----------
        *inputs
            Inputs of the model, with the axis of examples first.

        Returns
        -------
        numpy.ndarray
            Outputs, shape (n, outputs).
        """
        return self.member.predict(*inputs)

    def predict_files(
        self, files: Sequence[str | Path], *, progress: Callable[[str, int, int], None] | None = None
    ) -> Answers:
        """Read new files with the trainer's reader, or arrays without one, and predict them.

        Parameters
        ----------
        files
            Files or folders.
        progress
            Called with ``"predicting"``, the number of files done and that of all files.

        Returns
        -------
        Answers
            A row for each example, and the files that could not be read.

        Raises
        ------
        DataError
            If a file does not exist.
        """
        import pandas as pd

        found, names, outputs, skipped = files_in(files), list[str](), list[NDArray[np.float32]](), list[SkippedFile]()
        for i, file in enumerate(found, start=1):
            try:
                inputs = read_inputs(file, self.read)
                outputs.append(self.predict(inputs))
                names += [str(file)] if len(inputs) == 1 else [f"{file}[{row}]" for row in range(len(inputs))]
            except DataError as error:
                skipped.append(SkippedFile(str(file), str(error)))
            except Exception as error:  # noqa: BLE001 - a user's layers may raise anything
                skipped.append(SkippedFile(str(file), f"does not fit the model: {' '.join(str(error).split())[:200]}"))
            if progress is not None:
                progress("predicting", i, len(found))
        values = np.concatenate(outputs) if outputs else np.zeros((0, len(self.classes)), np.float32)
        columns: dict[str, Any] = {"file": names}
        if len(self.classes) == values.shape[1]:
            columns["class"] = [self.classes[i] for i in values.argmax(axis=1)] if len(values) else []
            columns |= {f"p_{name}": values[:, i] for i, name in enumerate(self.classes)}
        else:
            columns |= {f"output_{i}": values[:, i] for i in range(values.shape[1])}
        return Answers(pd.DataFrame(columns), tuple(skipped), ())

    def explain_files(
        self,
        files: Sequence[str | Path],
        *,
        of: str | None = None,
        most: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Explanations:
        """Read new files, and attribute the model's output to the parts of its inputs, by integrated gradients.

        An attribution says what the model looked at. It is not a cause.

        Parameters
        ----------
        files
            Files or folders, as for :meth:`predict_files`.
        of
            Class, or ``output_0`` and so on, to explain. Default: the largest output of each example.
        most
            Number of examples to explain, the first ones. Default: 20.
        progress
            Called with ``"explaining"``, the number of steps done and that of all steps.

        Returns
        -------
        Explanations
            The contributions for each example, and the files that could not be read.

        Raises
        ------
        DataError
            If a file does not exist.
        RequestError
            If ``of`` is not predicted, the inputs have more than 3 axes, or the model has no gradient.
        """
        from aifs_tune.analysis.explanation import explain_users_files

        return explain_users_files(self, files, of=of, most=most, progress=progress)


@dataclass(frozen=True)
class Model:
    """Trained model of a study, of one or several members whose predictions are averaged.

    :func:`aifs_tune.load_model` makes it.

    Parameters
    ----------
    name
        What it is, such as ``trial 7`` or ``the final model of trial 7 (3 seeds)``.
    members
        The trained networks or trees.
    preparation
        How its training examples were prepared.
    """

    name: str
    members: tuple[Member, ...]
    preparation: Preparation

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that it predicts; empty if it predicts numbers alone."""
        return self.members[0].classes

    @property
    def has_probabilities(self) -> bool:
        """Whether it gives probabilities of its classes, as some estimators of scikit-learn do not."""
        return bool(self.classes) and all(getattr(each, "has_probabilities", True) for each in self.members)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Numbers that it predicts, with their units, each quantile as one; empty if it predicts classes alone."""
        return self.members[0].targets

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Predict examples that were prepared like the training examples.

        Parameters
        ----------
        *inputs
            Images as one uint8 array (n, height, width, channels); tables as one float32 array (n, columns); series as
            values (n, steps, channels) and lengths (n,); images of numbers as one array (n, height, width, bands).

        Returns
        -------
        numpy.ndarray
            Probabilities, shape (n, classes), or numbers in the units of their targets, shape (n, targets), or both in
            this order, shape (n, classes + targets): the means over the members.
        """
        each = [member.predict(*inputs) for member in self.members]
        return np.asarray(np.mean(each, axis=0, dtype=np.float64), np.float32)

    def predict_files(
        self, files: Sequence[str | Path], *, progress: Callable[[str, int, int], None] | None = None
    ) -> Answers:
        """Read new files as the training data were read, and predict them.

        Parameters
        ----------
        files
            Files or folders: images, frames, series, or tables with the columns of the training table.
        progress
            Called with ``"predicting"``, the number of files done and that of all files.

        Returns
        -------
        Answers
            A row for each example, or of a detector for each body, and the files that could not be read.

        Raises
        ------
        DataError
            If a file does not exist, a table lacks a column, or no file can be read.
        """
        import pandas as pd

        if self.preparation.kind == "bodies":
            return self._catalogue(files_in(files), progress)
        found, tables, names = files_in(files), [], list[str]()
        skipped, remarks = list[SkippedFile](), list[str]()
        n_done = 0
        for batch in self.preparation.batches(found):
            skipped += batch.skipped
            remarks += [text for text in batch.remarks if text not in remarks]
            if batch.names:
                tables.append(self.predict(*batch.inputs))
                names += batch.names
            n_done = len(names) + len(skipped)
            if progress is not None and self.preparation.kind != "table":
                progress("predicting", n_done, len(found))
        n_classes = len(self.classes)
        values = np.concatenate(tables) if tables else np.zeros((0, n_classes + len(self.targets)), np.float32)
        columns: dict[str, Any] = {"file": names}
        if self.classes:
            likeliest = values[:, :n_classes].argmax(axis=1)
            columns["class"] = [self.classes[i] for i in likeliest]
            if self.has_probabilities:
                columns |= {f"p_{name}": values[:, i] for i, name in enumerate(self.classes)}
            else:
                remarks.append("the model gives classes without probabilities, as its estimator has no predict_proba")
        columns |= {
            f"{target.name} [{target.unit}]" if target.unit else target.name: values[:, i]
            for i, target in enumerate(self.targets, start=n_classes)
        }
        return Answers(pd.DataFrame(columns), tuple(skipped), tuple(remarks))

    def _catalogue(self, files: Sequence[Path], progress: Callable[[str, int, int], None] | None) -> Answers:
        """A row for each body in frames, from the score that the training chose."""
        import pandas as pd

        from aifs_tune.trainers.models.detector import catalogue_rows

        member, n_done = self.members[0], 0
        tables, skipped = list[pd.DataFrame](), list[SkippedFile]()
        remarks = ["bodies of several members are not averaged: the first one answers"] * (len(self.members) > 1)
        for batch in self.preparation.batches(files):
            skipped += batch.skipped
            if batch.names:
                tables.append(pd.DataFrame(catalogue_rows(member, batch.inputs, batch.names)))
            n_done = min(n_done + len({*batch.names}) + len(batch.skipped), len(files))
            if progress is not None:
                progress("predicting", n_done, len(files))
        table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        return Answers(table, tuple(skipped), tuple(remarks))

    def explain_files(
        self,
        files: Sequence[str | Path],
        *,
        of: str | None = None,
        most: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Explanations:
        """Read new files, and attribute each answer to pixels, time steps or columns.

        Networks of images, frames and series are explained by integrated gradients, models of tables by Shapley values.

        An attribution says what the model looked at. It is not a cause.

        Parameters
        ----------
        files
            Files or folders, as for :meth:`predict_files`.
        of
            Class or target to explain. Default: the likeliest class of each example, or the first target.
        most
            Number of examples to explain, the first ones. Default: 20 images or series, 200 rows.
        progress
            Called with ``"explaining"``, the number of steps done and that of all steps.

        Returns
        -------
        Explanations
            The contributions for each example, and the files that could not be read.

        Raises
        ------
        DataError
            If a file does not exist, or a table lacks a column.
        RequestError
            If ``of`` is not predicted, or the model is a detector.
        """
        from aifs_tune.analysis.explanation import explain_files

        return explain_files(self, files, of=of, most=most, progress=progress)


def model_of_study(study: str, *, storage: str | None = None, trial: int | None = None) -> Model | UserModel:
    """Load the model of a study: see :func:`aifs_tune.load_model`, which reads bundles too."""
    found = get_study(Storage(storage), study)
    if found.spec.is_of_function:
        chosen = found.best if trial is None else found.trial(trial)
        return model_in(f"trial {chosen.number}", found.spec, (kept_weights(found, chosen),), found.name)
    if found.spec.trainer is None:
        raise RequestError(f"Study {found.name!r} has no trainer, so it has no model; allowed: a study of a sweep")
    made = None
    if trial is None:
        made = find_final_model(found) if found.fact(FINAL) is None else read_final_model(found)
    if made is not None and len(made.members) == made.n_members:
        return model_of(made)
    chosen = found.best if trial is None else found.trial(trial)
    return model_in(f"trial {chosen.number}", found.spec, (kept_weights(found, chosen),), found.name)


def model_of(made: FinalModel) -> Model:
    """Load a final model, all of its members."""
    folders = [kept_weights(made.study, trial) for trial in made.members]
    found = model_in(made.name, made.study.spec, folders, made.study.name)
    assert isinstance(found, Model)  # models of users' functions are not finalized
    return found


def model_in(name: str, spec: SweepSpec, folders: Sequence[Path], study: str) -> Model | UserModel:
    """Load a model from the folders with the weights of its members; ``spec`` is that of its study.

    Raises
    ------
    RequestError
        If its trainer keeps no model.
    TrainerError
        If a file is missing or damaged.
    """
    if spec.is_of_function:
        return _users_model(name, spec, folders[0], study)
    members = tuple(_loaded(spec, folder) for folder in folders)
    return Model(name, members, preparation_of(spec, members[0]))


def predict_test(made: FinalModel, location: Path, kind: str) -> Predictions:
    """Predict the test part of the prepared data at ``location`` with a final model; of quantiles, the median."""
    from aifs_tune.data import open_examples, open_images

    model = model_of(made)
    if kind == "images":
        images = open_images(location)
        rows = images.test
        return Predictions(rows, images.labels[rows], model.predict(images.images[rows]), images.classes, ())
    examples = open_examples(location)
    rows = examples.test
    y_pred = model.predict(*(array[rows] for array in examples.inputs))
    points = y_pred if examples.classes else point_predictions(y_pred, len(examples.targets))
    return Predictions.of(examples, rows, points)


def _users_model(name: str, spec: SweepSpec, folder: Path, study: str) -> UserModel:
    """The Keras model that a user's trainer has kept; the trainer is imported only for its reader, and if allowed."""
    assert spec.trainer is not None
    if not (folder / MODEL_NAME).is_file():
        files = ", ".join(sorted(file.name for file in folder.iterdir())) or "none"
        raise RequestError(
            f"Study {study!r} is of {spec.trainer.name}, which keeps no {MODEL_NAME}; its files are in "
            f"{folder}: {files}; allowed: a study of a built-in trainer, or a Keras model with get_config"
        )
    read = None
    if not spec.trainer.name.startswith(MAIN):
        read = getattr(import_function(spec.trainer.name), "read", None)
    return UserModel(name, KerasModel(folder), read)


def _loaded(spec: SweepSpec, folder: Path) -> Member:
    assert spec.trainer is not None
    if spec.is_of_estimator:
        with missing_packages_named():
            return load_estimator(folder)
    if spec.trainer.name == BOOSTING:
        return load_trees(folder)
    from aifs_tune.trainers.load import load_network

    return load_network(folder)


def preparation_of(spec: SweepSpec, member: Member) -> Preparation:
    """How the training examples of a model were prepared: ``spec`` is that of its study.

    Raises
    ------
    TrainerError
        If the weights do not say.
    """
    entry = find_trainer_entry(spec)
    assert entry is not None
    data, facts = spec.data or DataSpec(), member.facts
    try:
        if entry.kind != "images":
            return Preparation(entry.kind, data, facts["inputs"])
        image = None if isinstance(member, LoadedTrees | LoadedEstimator) else tuple(member.shape.image)
        range16 = facts["range16"]
        return Preparation(entry.kind, data, {}, image, None if range16 is None else (range16[0], range16[1]))
    except KeyError as error:
        raise TrainerError(
            f"the weights do not say how the training data were prepared ({error} is missing); train the model again"
        ) from error

"""Preparation of images in scientific formats that a manifest lists, with numbers or classes to predict."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aifs_tune._util.atomic_files import PARTIAL
from aifs_tune._util.cache import cache_root, storing
from aifs_tune.config.data import DataSpec, FramesSpec
from aifs_tune.data.class_names import alike_classes, in_parentheses
from aifs_tune.data.digests import Progress
from aifs_tune.data.examples import PreparedExamples, open_examples, store_examples
from aifs_tune.data.file_table import FileTable, file_table, name_below, sha256_of
from aifs_tune.data.frames.files import Frames, find_prepared, read_frames, save_prepared
from aifs_tune.data.frames.manifest import MIN_IMAGES, Manifest, load_manifest
from aifs_tune.data.frames.stretch import Stretch, fit_stretch
from aifs_tune.data.images.decode import LOCK
from aifs_tune.data.images.folder import SUBSETS, shown
from aifs_tune.data.images.inspect import listed
from aifs_tune.data.split import Subsets, assign_subsets, fold_given_subsets, given_subsets, predicted_of
from aifs_tune.errors import DataError


def prepare_frames(
    data: DataSpec,
    *,
    strict: bool = False,
    processes: int | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> PreparedExamples:
    """Read the images of a manifest, split them and stretch their pixel values.

    Each process reads one image at a time, so the memory does not grow with the number of images. Missing pixels
    become the median of their image, and the stretch is fitted to the training set. Unusable images are left out and
    named. If the manifest, the files and the settings are unchanged, the images are not read again.

    Parameters
    ----------
    data : DataSpec
        Section ``data`` of a sweep, with ``frames.manifest``.
    strict : bool, default False
        Raise if an image is unusable. Otherwise up to half of the images may be unusable.
    processes : int, optional
        Number of processes that read; 0 reads in this process. By default one per CPU, at most 8, and 0 for fewer
        than 200 images.
    progress : callable, optional
        Called with ``"reading"`` or ``"stretching"``, the number of images done and the number of all images.
    tell : callable, optional
        Called with a forecast, after the first images, of the disk space and the time if they are much.

    Returns
    -------
    PreparedExamples
        The examples, with one float16 input array of shape (n, height, width, bands).

    Raises
    ------
    DataError
        If the manifest or too many images cannot be used; the text names the manifest, row or file, what was found
        and what is allowed.
    StorageError
        If the cache cannot be written, or the images need more space than is free.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from aifs_tune.config import DataSpec
    >>> from aifs_tune.data import prepare_frames
    >>> rng = np.random.default_rng(0)
    >>> rows = ["path,flux"]
    >>> for i in range(12):
    ...     np.save(f"{i}.npy", rng.normal(100, 5, (8, 8)) + i)
    ...     rows.append(f"{i}.npy,{i}")
    >>> _ = Path("manifest.csv").write_text("\\n".join(rows))
    >>> frames = {"manifest": "manifest.csv", "targets": {"flux": "electron"}}
    >>> prepared = prepare_frames(DataSpec(frames=frames))
    >>> prepared.examples.inputs[0].shape, prepared.examples.targets[0].unit
    ((12, 8, 8, 1), 'electron')
    """
    spec = data.frames or FramesSpec()
    manifest = load_manifest(spec, follow_links=data.follow_links)
    root = cache_root().absolute()
    key = [spec.model_dump(mode="json"), data.split.model_dump(mode="json"), strict]
    known = find_prepared(root, key, manifest)
    if known is not None:
        return known
    with storing(root), tempfile.TemporaryDirectory(prefix=PARTIAL, dir=root) as scratch:
        frames = read_frames(
            manifest, spec, Path(scratch), progress, lock_file=root / LOCK, tell=tell, processes=processes
        )
        _check_skipped_files(frames, manifest.where, strict=strict)
        prepared = _stored(frames, manifest, data, Path(scratch), progress)
        save_prepared(root, key, manifest, prepared)
    return prepared


def _check_skipped_files(frames: Frames, where: str, *, strict: bool) -> None:
    n_all, n_bad = len(frames.rows) + len(frames.skipped_files), len(frames.skipped_files)
    reasons = "".join(f"\n  {one}" for one in listed(frames.skipped_files))
    if strict and n_bad:
        raise DataError(f"{where}: {n_bad} images cannot be used; allowed when strict: none{reasons}")
    if n_bad > n_all / 2:
        raise DataError(f"{where}: {n_bad} of {n_all} images cannot be used; allowed: at most half{reasons}")
    if len(frames.rows) < MIN_IMAGES:
        raise DataError(f"{where}: {len(frames.rows)} images can be used; allowed: at least {MIN_IMAGES}{reasons}")


def _stored(
    frames: Frames, manifest: Manifest, data: DataSpec, scratch: Path, progress: Progress | None
) -> PreparedExamples:
    spec, where, rows = data.frames or FramesSpec(), manifest.where, frames.rows
    subsets = _subsets(frames, manifest, data)
    stretch = fit_stretch(spec.stretch, frames.statistics[subsets["train"]], where)
    inputs = frames.stretched(stretch, scratch / "stretched.npy", progress)
    facts = _facts(frames, spec, stretch)
    lines = [f"{where}: {len(manifest)} images of {frames.native[0]} x {frames.native[1]} px, {frames.shape[2]} bands"]
    lines += [*manifest.lines, *frames.notes]
    lines += [f"left out: {one}" for one in listed(frames.skipped_files)]
    labels = None if manifest.labels is None else [manifest.labels[row] for row in rows]
    values, units = manifest.values[rows], {name: target.unit for name, target in spec.targets.items()}
    y_true, classes, targets = predicted_of(labels, values if units else None, subsets["train"], units, where)
    location = store_examples([inputs], y_true, subsets, classes=classes, targets=targets, facts=facts)
    if labels is not None:
        lines.append("classes: " + ", ".join(f"{name} {labels.count(name)}" for name in classes))
        lines += [f"warning: {text}" for text in alike_classes(classes)]
    if targets:
        texts = [f"{t.name} {t.centre:.4g} +- {t.scale:.4g} {t.unit or ''}".rstrip() for t in targets]
        lines.append(f"targets: {', '.join(texts)}")
    counts = ", ".join(f"{subset} {len(subsets[subset])}" for subset in SUBSETS)
    lines.append(f"{counts} images; {frames.n_missing:,} missing pixels filled with the median of their image")
    files = _files(manifest, rows, subsets)
    return PreparedExamples(open_examples(location), location, lines, files, frames.columns)


def _files(manifest: Manifest, rows: Sequence[int], subsets: Subsets) -> FileTable:
    folder = manifest.source.parent
    used = {file for row in rows for file in manifest.files[row]}
    names = {file: name_below(file, folder) for file in used}
    return file_table(
        [
            (
                [names[file] for file in manifest.files[row]],
                None if manifest.indices[row] is None else f"image {manifest.indices[row]}",
            )
            for row in rows
        ],
        {name: sha256_of(file) for file, name in names.items()}
        | {shown(manifest.source.name): sha256_of(manifest.source)},
        subsets,
        labels=None if manifest.labels is None else [shown(manifest.labels[row]) for row in rows],
        groups=None if manifest.groups is None else [shown(manifest.groups[row]) for row in rows],
        lists=[shown(manifest.source.name)],
    )


def _subsets(frames: Frames, manifest: Manifest, data: DataSpec) -> Subsets:
    where, rows = manifest.where, frames.rows
    labels = None if manifest.labels is None else [manifest.labels[row] for row in rows]
    groups = None if manifest.groups is None else [manifest.groups[row] for row in rows]
    if manifest.subsets is None:
        return assign_subsets(
            data.split, where, contents=frames.contents, groups=groups, labels=labels or ["all"] * len(rows)
        )
    subsets = given_subsets([manifest.subsets[row] for row in rows], where)
    for subset in ("train", "val") if labels is not None else ():
        assert labels is not None
        missing = sorted(set(labels) - {labels[i] for i in subsets[subset]})
        if missing:
            raise DataError(
                f"{where}: no {subset} image of class {missing[0]}{in_parentheses(labels)}; allowed: every class in "
                f"{subset}"
            )
    strata, n = labels or ["all"] * len(rows), len(rows)
    return fold_given_subsets(
        data.split.fold, subsets, n, where, contents=frames.contents, groups=groups, labels=strata
    )


def _facts(frames: Frames, spec: FramesSpec, stretch: Stretch) -> dict[str, Any]:
    return {
        "shape": list(frames.shape),
        "native": list(frames.native),
        "first_pixel": spec.first_pixel,
        "roles": list(spec.roles),
        "reading": asdict(frames.reading),
        "background": spec.background,
        "stretch": stretch.to_json(),
        "bends": stretch.bends.tolist(),
    }

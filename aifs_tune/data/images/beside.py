"""What lies beside images in folders and is no image of a class: masks, label maps and folders of folds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

_IMAGES = frozenset({"images", "image", "imgs", "img", "jpegimages", "photos", "pictures"})
_MASKS = frozenset(
    {"masks", "segmentations", "segmentation", "segmentationclass", "annotations", "annotation", "labels"}
    | {"groundtruth", "gt", "bboxes", "boxes", "contours"}
)
"""Names of folders, without separators, that hold something about each image; a folder ``mask`` may be a class."""
_OF_IMAGE = re.compile(
    r"(?P<image>.+?)[_\-. ]+(mask|masks|seg|segm|segmentation|label|labels|annotation|gt|groundtruth)([_\-. ]?\d+)?",
    re.IGNORECASE,
)
_HINT = re.compile("mask|seg|label|annotation|gt|truth|box|contour", re.IGNORECASE)
_ORIGINALS = ("", "_image", "_img", "_orig", "_original", "-image", "-img")
_FOLD = re.compile(r"(fold|split|cv|part)?[_\- ]*\d+", re.IGNORECASE)
_MOST_NAMED = 2


def is_about_images(name: str) -> bool:
    """Whether a folder of this name holds masks, labels or boxes of images in other folders."""
    return _letters_of(name) in _MASKS


def are_images_and_masks(names: Sequence[str]) -> bool:
    """Whether folders are images of unknown classes with their masks or labels, not classes."""
    plain = {_letters_of(name) for name in names}
    return bool(plain & _IMAGES) and bool(plain & (_MASKS | {"mask"})) and plain <= _IMAGES | _MASKS | {"mask"}


def masks_among(files: Sequence[str], classes: Sequence[str]) -> set[str]:
    """Return the files that are masks: named after an image beside them, or in a folder of masks inside a class folder.

    ``files`` are paths, and ``classes`` the paths of the class folders.
    """
    if not any(map(_HINT.search, files)):
        return set()
    stems = {(str(path.parent), path.stem.lower()) for path in map(PurePosixPath, files)}
    roots, folders = set(classes), {parent for parent, _ in stems}
    of_masks = {folder for folder in folders if _is_of_masks(folder, roots, folders)}
    found = set()
    for file in files:
        path = PurePosixPath(file)
        match = _OF_IMAGE.fullmatch(path.stem)
        image = match["image"].lower() if match else ""
        is_named = match is not None and any((str(path.parent), image + end) in stems for end in _ORIGINALS)
        if is_named or str(path.parent) in of_masks:
            found.add(file)
    return found


def mask_classes(files: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the class folders that hold masks of images in the others, by their names and those of their files.

    ``files`` has the paths of the files of each class.
    """
    found = []
    for name, its in files.items():
        if not is_about_images(name):
            continue
        others = {PurePosixPath(file).stem.lower() for other, of_it in files.items() if other != name for file in of_it}
        stems = [PurePosixPath(file).stem.lower() for file in its]
        images = [match["image"] if (match := _OF_IMAGE.fullmatch(stem)) else stem for stem in stems]
        n_known = sum(stem in others or image in others for stem, image in zip(stems, images, strict=True))
        if 2 * n_known >= len(its):
            found.append(name)
    return found


def are_folds(folders: Mapping[str, Sequence[str]]) -> bool:
    """Whether folders are parts of a cross-validation: numbered, and with the same classes inside.

    ``folders`` has the names of the folders in each.
    """
    inside = {frozenset(below) for below in folders.values()}
    return (
        len(folders) > 1
        and all(_FOLD.fullmatch(name) for name in folders)
        and len(inside) == 1
        and len(next(iter(inside))) > 1
    )


def some(names: Sequence[str]) -> str:
    """Return the first names as text, and how many more there are."""
    text = ", ".join(names[:_MOST_NAMED])
    return f"{text} and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else text


def _letters_of(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _is_of_masks(folder: str, roots: set[str], folders: set[str]) -> bool:
    """Whether a folder inside a class folder is called masks, and has images beside it."""
    path = PurePosixPath(folder)
    if folder in roots or _letters_of(path.name) not in _MASKS | {"mask"}:
        return False
    beside = {str(path.parent), *(other for other in folders if PurePosixPath(other).parent == path.parent)}
    return any(other in folders and other != folder for other in beside)

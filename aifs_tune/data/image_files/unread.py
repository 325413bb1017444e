"""What helps with image files that are not read, by suffix."""

from __future__ import annotations

_BIO_FORMATS = "convert it with Bio-Formats: bfconvert {name} {stem}.ome.tiff"
_BY_SUFFIX = {
    **dict.fromkeys((".czi", ".nd2", ".lif", ".lsm", ".oib", ".oif", ".vsi", ".ims", ".stk", ".flex"), _BIO_FORMATS),
    **dict.fromkeys((".svs", ".ndpi", ".mrxs", ".scn"), "convert it with vips: vips tiffsave {name} {stem}.tiff"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"), "convert it: dcraw -T -4 {name}"),
    **dict.fromkeys((".heic", ".heif", ".avif", ".jxl"), "convert it with ImageMagick: magick {name} {stem}.png"),
    **dict.fromkeys((".psd", ".xcf", ".svg", ".eps", ".pdf"), "convert it with ImageMagick: magick {name} {stem}.png"),
    ".mrc": "convert it with IMOD: mrc2tif {name} {stem}.tiff",
    **dict.fromkeys(
        (".nii", ".nii.gz", ".mgz"),
        'pip install nibabel; python -c "import nibabel, numpy; '
        "numpy.save('{stem}.npy', nibabel.load('{name}').get_fdata())\"",
    ),
    **dict.fromkeys(
        (".nrrd", ".mha", ".mhd"),
        "pip install SimpleITK; python -c \"import SimpleITK as s; s.WriteImage(s.ReadImage('{name}'), '{stem}.tif')\"",
    ),
    **dict.fromkeys(
        (".edf", ".cbf", ".mccd"),
        "pip install fabio; python -c \"import fabio, numpy; numpy.save('{stem}.npy', fabio.open('{name}').data)\"",
    ),
    ".zarr": "python -c \"import zarr, numpy; numpy.save('{stem}.npy', zarr.open('{name}')[:])\"",
    ".asdf": "python -c \"import asdf, numpy; numpy.save('{stem}.npy', asdf.open('{name}')['data'])\"",
    ".mat": "python -c \"import scipy.io, numpy; numpy.save('{stem}.npy', scipy.io.loadmat('{name}')['KEY'])\"",
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst"), "unpack it"),
    **dict.fromkeys((".zip", ".tar", ".tgz"), "unpack it"),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".pth"), "save it as NumPy: numpy.save('{stem}.npy', array)"),
    **dict.fromkeys((".tfrecord", ".tfrecords"), "save each image of it as a file"),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv"), "save its frames: ffmpeg -i {name} {stem}_%05d.png"),
}


def unread_advice(name: str) -> str | None:
    """Return a command that makes a file readable, by the suffix of its name; None if none is known."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    lower = base.lower()
    suffix = max((each for each in _BY_SUFFIX if lower.endswith(each)), key=len, default=None)
    if suffix is None:
        return None
    return _BY_SUFFIX[suffix].format(name=base, stem=base[: -len(suffix)])

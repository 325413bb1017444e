"""Files of images as laboratories have them: stacks, masks beside images, deep colours, and many images in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pydicom
import pytest
import tifffile
from astropy.io import fits
from pictures import deep_png
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from aifs_tune.config.data import DataSpec
from aifs_tune.data.frames.formats import ImageReader, read_image
from aifs_tune.data.frames.prepare import prepare_frames
from aifs_tune.data.image_files.arrays import Reading, Request, UnreadableError
from aifs_tune.data.image_files.npz import NpzArray
from aifs_tune.data.new_files import Preparation
from aifs_tune.errors import DataError, StorageError

N = 12
RANDOM = np.random.default_rng(5)


def noted(path: Path, **reading: Any) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    with ImageReader(Reading(**reading)) as reader:
        return reader.read([path], Request(note=notes.append)), notes


def manifest(folder: Path, paths: list[str], **more: list[Any]) -> DataSpec:
    """A manifest of these files, with numbers to predict."""
    columns = {"path": paths, "z": list(range(len(paths))), **more}
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (folder / "manifest.csv").write_text("\n".join(lines))
    return DataSpec(frames={"manifest": folder / "manifest.csv", "targets": {"z": {}}})


def with_frames(data: DataSpec, **frames: Any) -> DataSpec:
    assert data.frames is not None
    return DataSpec(frames={**data.frames.model_dump(exclude_unset=True), **frames})


@pytest.mark.parametrize("kind", ["npz", "fortran", "stored", "h5"])
def test_a_file_of_many_images_is_unpacked_once(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = RANDOM.integers(0, 255, (40, 9, 8), dtype=np.uint8)
    name = f"all.{'h5' if kind == 'h5' else 'npz'}"
    if kind == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("x", data=images, chunks=(40, 9, 8), compression="gzip")
    else:
        save = np.savez if kind == "stored" else np.savez_compressed
        save(tmp_path / name, x=np.asfortranarray(images) if kind == "fortran" else images, y=np.arange(40))
    order = RANDOM.permutation(40)
    data = with_frames(manifest(tmp_path, [name] * 40, i=order.tolist()), index="i", stretch="linear")
    starts: list[int] = []
    whole = NpzArray._values

    def counted(self: NpzArray, n_bytes: int, shape: tuple[int, ...]) -> Any:
        starts.append(self._file.tell())
        return whole(self, n_bytes, shape)

    monkeypatch.setattr(NpzArray, "_values", counted)
    found = prepare_frames(data).examples
    assert starts == sorted(starts)  # never back to the beginning, where unpacking would start again
    assert len(starts) == {"h5": 0, "fortran": 1}.get(kind, 40)
    ranks = [float(image[4, 4, 0]) for image in found.inputs[0].astype(float)]
    assert np.corrcoef(ranks, images[order, 4, 4])[0, 1] > 0.999
    by_row = Preparation("frames", data, found.facts)
    (read,) = by_row.batches([tmp_path / "manifest.csv"])
    np.testing.assert_array_equal(read.inputs[0], found.inputs[0])
    assert prepare_frames(with_frames(data, group="z"), processes=2).examples.inputs[0].shape == (40, 9, 8, 1)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", "half"])
def test_a_damaged_npz_is_named(tmp_path: Path, content: Any) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=RANDOM.normal(size=(6, 30, 30)))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(UnreadableError, match="cannot be read as npz"):
        read_image(tmp_path / "a.npz", 2, Reading())


def test_more_space_than_is_free_is_refused_at_the_first_image_and_much_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(N):
        np.save(tmp_path / f"{i}.npy", RANDOM.normal(size=(16, 20)))
    data = manifest(tmp_path, [f"{i}.npy" for i in range(N)])
    told: list[str] = []
    prepare_frames(data, tell=told.append)
    assert told == []
    monkeypatch.setattr("aifs_tune.data.forecast.SPOKEN_BYTES", 20_000)
    prepare_frames(with_frames(data, stretch="linear"), tell=told.append)
    (text,) = told
    assert text.startswith(
        "12 images of 16 x 20 x 1 need 23 kB of disk space while they are prepared and 7.68 kB after"
    )
    monkeypatch.setattr("aifs_tune.data.forecast.shutil.disk_usage", lambda _: type("Usage", (), {"free": 9000}))
    with pytest.raises(
        StorageError, match=r"need 23 kB of disk space .* and 9 kB are free; allowed: data.frames.image"
    ):
        prepare_frames(with_frames(data, stretch="zscale"))


def hdus(path: Path, *parts: tuple[str, np.ndarray]) -> Path:
    images = [fits.ImageHDU(array, name=name) for name, array in parts]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    return path


def test_a_mask_before_the_image_is_passed_over_and_it_is_said(tmp_path: Path) -> None:
    sky, mask = RANDOM.normal(size=(6, 7)).astype(np.float32), np.ones((6, 7), np.int32)
    file = hdus(tmp_path / "a.fits", ("DQ", mask), ("SCI_ERR", sky + 9), ("SCI", sky))
    found, notes = noted(file)
    np.testing.assert_array_equal(found[..., 0], sky)
    assert notes == ["the image is HDU SCI, not DQ, SCI_ERR before it (data.frames.hdu)"]
    np.testing.assert_array_equal(noted(file, hdu=("DQ",))[0][..., 0], mask)
    found, notes = noted(hdus(tmp_path / "b.fits", ("SCI", sky), ("WHT", sky)))
    assert notes == []
    for i in range(N):
        hdus(tmp_path / f"{i}.fits", ("MASK", mask), ("IMAGE", sky + i))
    lines = prepare_frames(manifest(tmp_path, [f"{i}.fits" for i in range(N)])).lines
    assert "12 images: the image is HDU IMAGE, not MASK before it (data.frames.hdu)" in lines


def test_a_target_pixel_file_is_no_picture_of_its_mask(tmp_path: Path) -> None:
    flux = RANDOM.normal(100, 5, (5, 11, 13)).astype(np.float32)
    columns = [
        fits.Column("TIME", "D", array=np.arange(5)),
        fits.Column("FLUX", "143E", dim="(13,11)", array=flux),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="PIXELS")
    aperture = fits.ImageHDU(np.ones((11, 13), np.int32), name="APERTURE")
    fits.HDUList([fits.PrimaryHDU(), table, aperture]).writeto(tmp_path / "tpf.fits")
    with pytest.raises(UnreadableError, match=r"no HDU with an image but APERTURE, by name a mask.*images in FLUX"):
        read_image(tmp_path / "tpf.fits", None, Reading())
    with pytest.raises(UnreadableError, match=r"HDU 'PIXELS' is not an image; .* in data.frames.dataset: FLUX"):
        read_image(tmp_path / "tpf.fits", None, Reading(hdu=("PIXELS",)))
    found = read_image(tmp_path / "tpf.fits", 3, Reading(hdu=("PIXELS",), dataset="FLUX"))
    np.testing.assert_array_equal(found[..., 0], flux[3])
    only = hdus(tmp_path / "weight.fits", ("WEIGHT", np.ones((5, 5))))
    with pytest.raises(UnreadableError, match="but WEIGHT, by name a mask, weight or error"):
        read_image(only, None, Reading())


@pytest.mark.parametrize(
    ("shape", "bands", "found", "said"),
    [
        ((16, 20, 3), "auto", (16, 20, 3), "shape 16 x 20 x 3 read as 3 bands of 16 x 20 px, bands last"),
        ((3, 16, 20), "auto", (16, 20, 3), "shape 3 x 16 x 20 read as 3 bands of 16 x 20 px, bands first"),
        ((16, 16, 12), "auto", (16, 16, 12), "12 bands of 16 x 16 px, bands last"),
        ((12, 16, 16), "auto", (16, 16, 12), "12 bands of 16 x 16 px, bands first"),
        ((16, 20, 3), "first", (20, 3, 16), None),
        ((3, 16, 20), "last", (3, 16, 20), None),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "npz", "h5"])
def test_the_axis_of_the_bands_is_told_from_the_shape(
    tmp_path: Path, shape: Any, bands: Any, found: Any, said: str | None, kind: str
) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["x"] = np.zeros(shape)
    else:
        (np.save if kind == "npy" else np.savez)(path, np.zeros(shape))
    pixels, notes = noted(path, bands=bands)
    assert pixels.shape == found
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]


def test_the_planes_of_a_cube_in_fits_come_first_unless_they_are_few(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((10, 10, 12), np.float32)).writeto(tmp_path / "cube.fits")
    assert noted(tmp_path / "cube.fits")[0].shape == (10, 12, 10)
    fits.PrimaryHDU(np.zeros((30, 40, 3), np.float32)).writeto(tmp_path / "colour.fits")
    pixels, notes = noted(tmp_path / "colour.fits")
    assert pixels.shape == (30, 40, 3)
    assert "bands last" in notes[0]


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}, {"planarconfig": "separate"}])
@pytest.mark.parametrize("dtype", ["u2", "i1", "i2", "f4", "f8"])
def test_tiff_keeps_every_bit_and_sign(tmp_path: Path, options: dict[str, Any], dtype: str) -> None:
    low = -100 if dtype != "u2" else 0
    colour = (RANDOM.normal(0, 40, (9, 7, 3)) if dtype[0] == "f" else RANDOM.integers(low, 120, (9, 7, 3))).astype(
        dtype
    )
    colour[0, 0] = 4095 if dtype == "u2" else colour[0, 0]
    stored = np.moveaxis(colour, -1, 0) if "planarconfig" in options else colour
    tifffile.imwrite(tmp_path / "colour.tif", stored, photometric="rgb", **options)
    np.testing.assert_allclose(read_image(tmp_path / "colour.tif", None, Reading()), colour, rtol=1e-6)
    if "planarconfig" not in options:
        tifffile.imwrite(tmp_path / "grey.tif", colour[..., 0], **options)
        np.testing.assert_allclose(
            read_image(tmp_path / "grey.tif", None, Reading())[..., 0], colour[..., 0], rtol=1e-6
        )


STACK = RANDOM.integers(0, 4000, (3, 2, 5, 8, 6)).astype(np.uint16)  # T, C, Z, Y, X


def write_stack(path: Path, kind: str) -> None:
    if kind == "ome":
        tifffile.imwrite(path, STACK, ome=True, metadata={"axes": "TCZYX"})
    elif kind == "packed":
        tifffile.imwrite(path, STACK, ome=True, compression="zlib", metadata={"axes": "TCZYX"})
    else:
        tifffile.imwrite(path, STACK.transpose(0, 2, 1, 3, 4), imagej=True, metadata={"axes": "TZCYX"})


@pytest.mark.parametrize("kind", ["ome", "packed", "imagej"])
@pytest.mark.parametrize(
    ("planes", "index", "expected"),
    [
        ({"T": 1, "Z": 4}, None, STACK[1, :, 4]),
        ({"T": 2, "Z": "max"}, None, STACK[2].max(axis=1)),
        ({"T": "mean", "Z": 0, "C": 1}, None, STACK[:, 1, 0].mean(axis=0, keepdims=True)),
        ({"T": 0, "Z": "all", "C": 0}, None, STACK[0, 0]),
        ({"Z": 3}, 2, STACK[2, :, 3]),
    ],
)
def test_of_a_stack_what_is_asked_for_along_each_axis(
    tmp_path: Path, kind: str, planes: dict[str, Any], index: int | None, expected: np.ndarray
) -> None:
    write_stack(tmp_path / "a.ome.tif", kind)
    found = read_image(tmp_path / "a.ome.tif", index, Reading(planes=tuple(planes.items())))
    np.testing.assert_allclose(np.moveaxis(found, -1, 0), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("planes", "index", "message"),
    [
        (
            {},
            None,
            r"has the axes T 3, C 2, Z 5, Y 8, X 6; say what is read along T and Z: .*planes \{T: 0, Z: 0\}, or",
        ),
        ({"T": 0}, None, "say what is read along Z: "),
        ({"T": 3, "Z": 0}, None, "has no plane 3 on the axis T; allowed: 0 to 2"),
        ({"Q": 0}, None, "no axis Q to choose a plane of"),
        ({}, 1, r"allowed with an index: one axis that data\.frames\.planes leaves"),
        ({"Z": 0}, 3, "has no image 3; allowed: 0 to 2"),
    ],
)
def test_a_stack_that_could_mean_several_images_is_refused(
    tmp_path: Path, planes: dict[str, Any], index: int | None, message: str
) -> None:
    write_stack(tmp_path / "a.tif", "ome")
    with pytest.raises(UnreadableError, match=message):
        read_image(tmp_path / "a.tif", index, Reading(planes=tuple(planes.items())))


def test_the_planes_stand_in_the_sweep_file(tmp_path: Path) -> None:
    for i in range(N):
        tifffile.imwrite(tmp_path / f"{i}.tif", STACK + i, ome=True, metadata={"axes": "TCZYX"})
    data = manifest(tmp_path, [f"{i}.tif" for i in range(N)])
    with pytest.raises(DataError, match=r"12 of 12 images cannot be used.*\n.*has the axes T 3, C 2, Z 5"):
        prepare_frames(data)
    chosen = with_frames(data, planes={"T": 0, "Z": "max"})
    examples = prepare_frames(chosen).examples
    assert examples.inputs[0].shape == (N, 8, 6, 2)
    (read,) = Preparation("frames", chosen, examples.facts).batches([tmp_path / "3.tif"])
    np.testing.assert_array_equal(read.inputs[0][0], examples.inputs[0][3])
    with pytest.raises(ValueError, match="planes"):
        with_frames(data, planes={"zed": 0})


def test_unnamed_pages_are_bands_and_unnamed_axes_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "pages.tif", STACK[0, 0].astype(np.uint8))
    np.testing.assert_array_equal(
        np.moveaxis(read_image(tmp_path / "pages.tif", None, Reading()), -1, 0), STACK[0, 0].astype(np.uint8)
    )
    tifffile.imwrite(tmp_path / "axes.tif", STACK[0])
    with pytest.raises(UnreadableError, match=r"has the axes A1 2, A2 5, Y 8, X 6; say what is read along A1 and A2"):
        read_image(tmp_path / "axes.tif", None, Reading())
    assert read_image(tmp_path / "axes.tif", None, Reading(planes=(("A1", 0), ("A2", "all")))).shape == (8, 6, 5)


def dicom(path: Path, pixels: np.ndarray, **header: Any) -> Path:
    """A DICOM file of grey pixels of 16 bits, or several frames."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.PatientName, file.PatientID = "Doe^Jane", "4711-secret"
    file.Rows, file.Columns = pixels.shape[-2:]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        file.NumberOfFrames = len(pixels)
    for name, value in header.items():
        setattr(file, name, value)
    file.PixelData = pixels.tobytes()
    file.save_as(path, enforce_file_format=True)
    return path


CT = RANDOM.integers(0, 4096, (9, 7)).astype(np.uint16)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, CT),
        ({"RescaleSlope": 2, "RescaleIntercept": -1024}, 2.0 * CT - 1024),
        ({"PhotometricInterpretation": "MONOCHROME1"}, 4095.0 - CT),
        (
            {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 0.5, "RescaleIntercept": 10},
            0.5 * (4095.0 - CT) + 10,
        ),
    ],
)
def test_dicom_is_read_in_its_units(tmp_path: Path, header: dict[str, Any], expected: np.ndarray) -> None:
    found, notes = noted(dicom(tmp_path / "a.dcm", CT, **header))
    np.testing.assert_allclose(found[..., 0], expected)
    assert bool(notes) == ("PhotometricInterpretation" in header)


def test_frames_of_dicom_are_chosen_by_the_index_and_none_is_taken_unasked(tmp_path: Path) -> None:
    frames = np.stack([CT, CT // 2, CT // 3])
    file = dicom(tmp_path / "a.dcm", frames)
    np.testing.assert_array_equal(read_image(file, 2, Reading())[..., 0], frames[2])
    with pytest.raises(UnreadableError, match=r"has 3 frames of 9 x 7 pixels; allowed: a column .*data.frames.index"):
        read_image(file, None, Reading())
    with pytest.raises(UnreadableError, match="has no image 3; allowed: 0 to 2"):
        read_image(file, 3, Reading())


@pytest.mark.parametrize("damage", ["short", "text", "header"])
def test_no_patient_is_named_by_a_message_or_stored(tmp_path: Path, damage: str) -> None:
    for i in range(N):
        dicom(tmp_path / f"{i}.dcm", CT + i % 7, BitsStored=13, HighBit=12)
    whole = (tmp_path / "3.dcm").read_bytes()
    broken = {"short": whole[:-40], "text": b"Doe^Jane" * 99, "header": whole.replace(b"MONOCHROME2 ", b"Doe^Jane XYZ")}
    (tmp_path / "3.dcm").write_bytes(broken[damage])
    prepared = prepare_frames(manifest(tmp_path, [f"{i}.dcm" for i in range(N)]))
    told = "\n".join(prepared.lines) + str(prepared.examples.facts) + str(prepared.files)
    stored = b"".join(file.read_bytes() for file in prepared.location.iterdir())
    for secret in ("Doe", "Jane", "4711"):
        assert secret not in told
        assert secret.encode() not in stored
    if damage != "header":
        assert "left out: 3.dcm: cannot be read as DICOM" in told


def test_the_manifest_of_a_competition_names_files_without_suffix_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for i in range(N):
        Image.fromarray(RANDOM.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"train/{i:04x}.png")
    data = manifest(tmp_path, [f"{i:04x}" for i in range(N)])
    with pytest.raises(DataError, match=r"row 1 has '0000', no suffix; allowed: .*data.frames.suffix"):
        prepare_frames(data)
    kaggle = with_frames(data, suffix=".png", folder=Path("train"))
    examples = prepare_frames(kaggle).examples
    assert examples.inputs[0].shape == (N, 8, 8, 3)
    (read,) = Preparation("frames", kaggle, examples.facts).batches([tmp_path / "manifest.csv"])
    np.testing.assert_array_equal(read.inputs[0], examples.inputs[0])
    for entry in ("train\\{:04x}.png", "train/{:04x}.png", "./train//{:04x}.png"):
        listed = manifest(tmp_path, [entry.format(i) for i in range(N)])
        assert prepare_frames(listed).examples.inputs[0].shape == (N, 8, 8, 3)
    outside = with_frames(manifest(tmp_path, ["../1"] * N), folder=Path("train"), suffix=".png")
    with pytest.raises(DataError, match=r"'../1', outside data.frames.folder; allowed: a relative path below it"):
        prepare_frames(outside)


def test_a_table_of_pandas_in_hdf5_is_no_image_unless_its_array_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        made = file.create_group("df")
        made.attrs["pandas_type"] = np.bytes_(b"frame")
        made["block0_values"] = np.zeros((20, 12))
    with pytest.raises(UnreadableError, match=r"holds a table of pandas \(df\), which is no image; convert it"):
        read_image(tmp_path / "t.h5", None, Reading())
    assert read_image(tmp_path / "t.h5", None, Reading(dataset="df/block0_values")).shape == (20, 12, 1)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a/cell.czi", "convert it with Bio-Formats: bfconvert cell.czi cell.ome.tiff"),
        ("brain.nii.gz", "nibabel.load('brain.nii.gz')"),
        ("raw.NEF", "convert it: dcraw -T -4 raw.NEF"),
        ("b.zarr", "zarr.open('b.zarr')"),
        ("b.xyz", "allowed: .fits, "),
    ],
)
def test_of_what_is_not_read_the_line_that_converts_it(tmp_path: Path, name: str, advice: str) -> None:
    with pytest.raises(DataError) as refused:
        prepare_frames(manifest(tmp_path, [name] * N))
    assert "with an unknown suffix; allowed: " in str(refused.value)
    assert advice in str(refused.value)


def test_dicom_without_its_package_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pydicom.__version__
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    (tmp_path / "a.dcm").write_bytes(b"x")
    with pytest.raises(Exception, match=r"pydicom is not installed; install it with: pip install 'aifs-tune\[dicom\]'"):
        read_image(tmp_path / "a.dcm", None, Reading())


def test_a_png_of_deep_colours_keeps_all_bits(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (4, 6, 3), np.uint16)
    (tmp_path / "deep.png").write_bytes(deep_png(values, 2))
    pixels, notes = noted(tmp_path / "deep.png")
    assert np.array_equal(pixels, values)
    assert notes == []


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_of_a_moving_picture_the_first_frame_is_read_and_it_is_said(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), (250 * (i == 0), 250 * (i == 1), 250 * (i == 2))) for i in range(3)]
    frames[0].save(tmp_path / f"moving.{kind}", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / f"still.{kind}")
    moving, notes = noted(tmp_path / f"moving.{kind}")
    assert notes == ["a moving picture, of which the first frame is read (data.frames.index)"]
    still, notes = noted(tmp_path / f"still.{kind}")
    assert notes == []
    np.testing.assert_allclose(moving, still, atol=8)
    assert read_image(tmp_path / f"moving.{kind}", 2, Reading())[8, 8].argmax() == 2


def test_colours_of_a_palette_and_a_header_that_is_no_number_in_dicom(tmp_path: Path) -> None:
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for i, colour in enumerate(("Red", "Green", "Blue")):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{colour}PaletteColorLookupTableData"] = (np.arange(256, dtype=np.uint16) * (i + 1)).tobytes()
    stored = np.arange(63, dtype=np.uint16).reshape(9, 7)
    found = read_image(dicom(tmp_path / "a.dcm", stored, **palette), None, Reading())
    np.testing.assert_array_equal(found, stored[..., np.newaxis] * np.arange(1, 4))
    file = dicom(tmp_path / "b.dcm", CT, NumberOfFrames=1)
    file.write_bytes(file.read_bytes().replace(b"(\0\x08\0IS\x02\x001 ", b"(\0\x08\0IS\x02\x00Do"))
    with pytest.raises(UnreadableError) as refused:
        read_image(file, None, Reading())
    assert str(refused.value) == "cannot be read as DICOM (ValueError)"


def test_small_pictures_are_not_called_deep(tmp_path: Path) -> None:
    for size in ((16, 16), (16, 160)):
        Image.new("RGB", size).save(tmp_path / "a.png")
        assert noted(tmp_path / "a.png")[1] == []


def test_old_fits_groups_are_refused_in_words(tmp_path: Path) -> None:
    groups = fits.GroupData(np.zeros((3, 1, 1, 2), np.float32), bitpix=-32, parnames=["U"], pardata=[np.arange(3.0)])
    fits.HDUList([fits.GroupsHDU(groups)]).writeto(tmp_path / "groups.fits")
    with pytest.raises(UnreadableError, match="has no HDU with an image; found: 0 PRIMARY"):
        read_image(tmp_path / "groups.fits", None, Reading())


def test_entries_that_are_numbers_with_zeros_before_them_name_their_files(tmp_path: Path) -> None:
    for i in range(N):
        np.save(tmp_path / f"{i:05d}.npy", RANDOM.normal(size=(8, 8)))
    found = prepare_frames(with_frames(manifest(tmp_path, [f"{i:05d}" for i in range(N)]), suffix=".npy"))
    assert len(found.examples.inputs[0]) == N


@pytest.mark.parametrize("bands", [(), (4,)])
def test_pixels_that_gdal_marks_as_missing_are_missing(bands: tuple[int, ...], tmp_path: Path) -> None:
    values = RANDOM.normal(300, 9, (8, 8, *bands)).astype(np.float32)
    values[0, :3] = -9999
    tag, how = (
        (42113, "s", 0, "-9999", True),
        {"photometric": "minisblack", "planarconfig": "contig" if bands else None},
    )
    tifffile.imwrite(tmp_path / "t.tif", values, extratags=[tag], **how)
    pixels, notes = noted(tmp_path / "t.tif")
    assert "pixels of -9999 are missing, as GDAL_NODATA says" in notes
    np.testing.assert_array_equal(np.isnan(pixels), (values == -9999).reshape(pixels.shape))
    tifffile.imwrite(tmp_path / "t.tif", values, **how)
    assert noted(tmp_path / "t.tif")[0].min() == -9999


def test_packed_pixels_of_hdf5_are_in_their_units_and_missing_ones_are_missing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        made = file.create_dataset("t2m", data=RANDOM.integers(0, 1000, (8, 8), np.int16))
        made[0, 0] = -32767
        made.attrs["_FillValue"] = np.array([-32767], np.int16)
        made.attrs["scale_factor"], made.attrs["add_offset"] = 0.01, 273.15
        stored = made[()]
    pixels, notes = noted(tmp_path / "t.h5")
    assert np.isnan(pixels[0, 0])
    np.testing.assert_allclose(pixels.ravel()[1:], stored.ravel()[1:] * 0.01 + 273.15, rtol=1e-6)
    assert notes == [
        "pixels of -32767 are missing, as _FillValue says",
        "pixels became 0.01 x + 273.15, as scale_factor and add_offset say",
    ]


def test_blank_pixels_of_fits_are_missing(tmp_path: Path) -> None:
    image = fits.PrimaryHDU(RANDOM.integers(0, 1000, (8, 8)).astype(np.int16))
    image.data[0, 0] = -999
    image.header["BLANK"] = -999
    image.writeto(tmp_path / "t.fits")
    assert np.isnan(read_image(tmp_path / "t.fits", None, Reading())[0, 0])

"""Arrays from elsewhere: a file that lies about its size is refused before anything is allocated."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aifs_tune._util.npz import read_plain_npz


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@given(arrays.arrays(st.sampled_from(["f4", "f8", "i8", "?"]), arrays.array_shapes(min_dims=0, min_side=0, max_side=4)))
def test_what_savez_writes_is_read_the_same(array):
    buffer = io.BytesIO()
    np.savez(buffer, one=array, two=np.asfortranarray(array))
    found = read_plain_npz(buffer.getvalue())
    for name in ("one", "two"):
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def compressed() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, zeros=np.zeros(50_000_000, np.float32))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (archive(w=header("(10000000000000,)") + bytes(40)), r"says 10,000,000,000,000 values of 4 bytes, and has 40"),
        (archive(w=header(f"({2**62}, {2**62})") + bytes(4)), "says .* values"),
        (archive(w=header("(-1,)") + bytes(4)), "says .* values"),
        (archive(w=header("(1,)", "'|O'") + b"cos\nsystem\n"), "Python objects"),
        (archive(w=b"not an array"), "magic"),
        (compressed(), "zeros.npy is compressed"),
    ],
    ids=["40 TB", "overflow", "negative", "pickle", "text", "a bomb"],
)
def test_what_lies_about_its_size_is_refused_without_memory_for_it(content, says):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=says):
            read_plain_npz(content)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(content) + 1_000_000
    finally:
        tracemalloc.stop()

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aifs_tune.errors import RequestError
from aifs_tune.trainers import runtime
from aifs_tune.trainers.runtime import configure, native_precision, resident, tf


def test_a_copy_on_write_map_is_shared(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((4, 8, 8, 3), np.uint8))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="c")
    tensor = resident(mapped)
    mapped[2] = 7
    assert np.array(tf.gather(tensor, [2])).min() == 7


def test_the_tensor_keeps_the_map_alive(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.full((4, 8, 8, 3), 9, np.uint8))
    tensor = resident(np.load(tmp_path / "images.npy", mmap_mode="c"))
    assert int(tf.reduce_min(tf.cast(tensor, tf.int32))) == 9


@pytest.mark.parametrize("offset", [0, 1, 16, 32])
def test_any_alignment_can_be_computed_with(offset: int) -> None:
    memory = np.zeros(4096, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    images = memory[start : start + 768].reshape(4, 8, 8, 3)
    images[3] = 5
    assert int(tf.reduce_max(tf.cast(tf.gather(resident(images), [3]), tf.int32))) == 5


def test_read_only_and_strided_arrays_are_copied() -> None:
    images = np.arange(4 * 8 * 8 * 3, dtype=np.int32).astype(np.uint8).reshape(4, 8, 8, 3)
    np.testing.assert_array_equal(np.array(resident(images[::2])), images[::2])
    images.flags.writeable = False
    np.testing.assert_array_equal(np.array(resident(images)), images)


def test_threads_are_positive_and_may_come_too_late() -> None:
    with pytest.raises(RequestError, match="threads: 0 is not allowed"):
        configure(0)
    tf.constant(1.0)
    configure(1)


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ({"avx512f", "avx512_bf16"}, "mixed_bfloat16"),
        ({"amx_bf16"}, "mixed_bfloat16"),
        ({"avx512f"}, "float32"),
        (set(), "float32"),
    ],
)
def test_bfloat16_is_native_where_the_cpu_says_so(monkeypatch: pytest.MonkeyPatch, flags: set, precision: str) -> None:
    monkeypatch.setattr(runtime, "cpu_flags", lambda: flags)
    assert native_precision() == precision


@pytest.mark.parametrize(("capability", "precision"), [((9, 0), "mixed_bfloat16"), ((7, 5), "float32")])
def test_bfloat16_is_native_on_a_gpu_by_its_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": capability})
    assert native_precision() == precision

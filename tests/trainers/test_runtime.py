from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aifs_tune.errors import RequestError
from aifs_tune.trainers.network import runtime
from aifs_tune.trainers.network.runtime import configure, gpu_peak_mb, native_precision, resident, tf


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


GPU = """
import json, sys
from aifs_tune._util import memory
from aifs_tune.errors import RequestError
from aifs_tune.trainers.network.runtime import configure
from tensorflow.python.eager import context

here = context.context()
here._initialize_physical_devices()
gpu = context.PhysicalDevice("/physical_device:GPU:0", "GPU")
here._physical_devices.append(gpu)
here._physical_device_to_index[gpu] = 0
here._visible_device_list.append(gpu)
for share, total_mb in json.loads(sys.argv[1]):
    memory.gpu_mb = lambda: total_mb
    here._memory_growth_map[gpu] = None
    here._virtual_device_map.clear()
    try:
        configure(1, share)
        configure(1, share)
    except RequestError as error:
        print(error)
        continue
    options = here._compute_gpu_options()
    print([list(each.memory_limit_mb) for each in options.experimental.virtual_devices], options.allow_growth)
"""


@pytest.mark.soak
def test_tensorflow_is_limited_to_a_share_of_a_gpu() -> None:
    """TensorFlow's own configuration, of a GPU that it is told of; nothing is allocated."""
    cases = [(0.25, 40_960), (0.25, None), (1.0, 40_960), (0.01, 40_960)]
    script = [sys.executable, "-c", GPU, json.dumps(cases)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    quarter, unknown, whole, too_small = done.stdout.splitlines()
    assert quarter == "[[9640.0]] False"
    assert unknown == whole == "[] True"
    assert "resources.gpu: 0.01 of a GPU with 40,960 MB is too little" in too_small


def test_trainers_are_listed_and_made_without_tensorflow() -> None:
    script = "import sys, aifs_tune.trainers.factory, aifs_tune.trainers.load, aifs_tune.testing\n"
    script += (
        "heavy = {'tensorflow', 'keras', 'jax', 'sklearn', 'pandas', 'ray'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_preloaded_worker_has_tensorflow() -> None:
    script = "import sys, aifs_tune.trainers.network.preload\nassert {'tensorflow', 'keras'} <= set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_growth_is_asked_for_in_the_environment_too() -> None:
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


def test_without_a_gpu_nothing_is_taken_of_one() -> None:
    assert gpu_peak_mb() is None


def test_the_peak_is_that_of_the_gpu_of_which_most_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["GPU:0", "GPU:1"])
    peaks = {"GPU:0": {"peak": 3 << 20, "current": 0}, "GPU:1": {"peak": 5 << 20, "current": 0}}
    monkeypatch.setattr(tf.config.experimental, "get_memory_info", lambda device: peaks[device])
    assert gpu_peak_mb() == 5.0

"""Memory as the system tells it, and errors that say it ran out."""

from __future__ import annotations

import pytest

from aifs_tune._util import memory

TABLE = "0, GPU-aaaa1111-2222, 81559\n1, GPU-bbbb1111-2222, 24564\n2, GPU-cccc1111-2222, [N/A]\n"


@pytest.mark.parametrize(
    ("visible", "total"),
    [
        (None, 81559),
        ("1", 24564),
        ("1,0", 24564),
        ("GPU-bbbb1111-2222", 24564),
        ("GPU-bb", 24564),
        ("2", None),
        ("7", None),
        ("", None),
        ("MIG-dddd", None),
    ],
)
def test_the_gpu_that_a_process_may_use_is_found_in_what_nvidia_smi_tells(visible, total):
    assert memory.total_of(TABLE, visible) == total


@pytest.mark.parametrize("told", ["", "No devices were found\n", "0, GPU-a\n"])
def test_nonsense_is_no_memory(told):
    assert memory.total_of(told, "0") is None


def test_nvidia_smi_is_asked_once(tmp_path, monkeypatch):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f'#!/bin/sh\necho asked >> {tmp_path}/asked\nprintf "0, GPU-a, 40960\\n1, GPU-b, 16384\\n"\n')
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    memory.gpu_mb.cache_clear()
    try:
        assert [memory.gpu_mb(), memory.gpu_mb()] == [16384, 16384]
        assert (tmp_path / "asked").read_text() == "asked\n"
        memory.gpu_mb.cache_clear()
        smi.write_text("#!/bin/sh\nexit 9\n")
        assert memory.gpu_mb() is None
    finally:
        memory.gpu_mb.cache_clear()


def test_what_a_process_takes_is_seen():
    before, node = memory.own_mb(), memory.node_mb()
    taken = bytearray(b"x" * (64 << 20))
    now, peak = memory.own_mb(), memory.peak_mb()
    assert None not in (before, now, peak, node)
    assert now - before == pytest.approx(64, abs=8)
    assert now - 8 <= peak < node
    del taken


class ResourceExhaustedError(Exception):
    """Called as TensorFlow's."""


class Deeper(ResourceExhaustedError):
    """A kind of it."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ResourceExhaustedError("OOM when allocating tensor with shape[4096,4096]"),
        Deeper(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1234 bytes."),
        RuntimeError("Failed copying input tensor from CPU to GPU: Dst tensor is not initialized."),
        RuntimeError("failed to create cublas handle: CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_errors_that_say_memory_ran_out(error):
    assert memory.is_out_of_memory(error)
    outer = ValueError("the pass failed")
    outer.__cause__ = error
    assert memory.is_out_of_memory(outer)


@pytest.mark.parametrize("error", [ValueError("the lamp broke"), OSError(28, "No space left"), SystemExit(3)])
def test_other_errors(error):
    assert not memory.is_out_of_memory(error)

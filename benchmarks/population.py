"""Images a second that populations of several sizes train, against one trial at a time, on the device JAX finds.

    KERAS_BACKEND=jax python benchmarks/population.py --sizes 1 4 16 64

The CNN of the published example on random images of --size pixels, batch 32, augmentation and dropout on. The limit
is the measured rate of a product of two 4096 x 4096 matrices, in the precision of the training, over the operations of
an image. On a GPU its use is what nvidia-smi tells, as the mean over the passes of a size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import threading
import time

import numpy as np

from aifs_tune.data.images.decode import ImageSet
from aifs_tune.trainers.fused.fused import examples_per_second, memory_share
from aifs_tune.trainers.models.cnn import CnnTrainer
from aifs_tune.trainers.network.runtime import jax


def pictures(n: int, size: int) -> ImageSet:
    """Random smooth images, three classes."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (n, size // 8, size // 8, 3), dtype=np.uint8)
    images, labels = coarse.repeat(8, axis=1).repeat(8, axis=2), (np.arange(n) % 3).astype(np.int32)
    train, val = np.split(np.arange(n, dtype=np.int32), [n * 4 // 5])
    return ImageSet(images, labels, ("a", "b", "c"), train, val, val[:0], "random")


def matmul_rate(precision: str) -> float:
    """Floating-point operations a second."""
    jnp = jax.numpy
    a = jnp.ones((4096, 4096), jnp.bfloat16 if precision == "mixed_bfloat16" else jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * 4096**3 / statistics.median(seconds)


class GpuUtilization:
    """The mean use of the first GPU in per cent while the context lasts; None without nvidia-smi."""

    def __enter__(self) -> GpuUtilization:
        self._seen: list[float] = []
        self._is_over = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._watch.join()

    @property
    def mean(self) -> float | None:
        return statistics.mean(self._seen) if self._seen else None

    def _look(self) -> None:
        ask = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
        while not self._is_over.wait(0.2):
            try:
                done = subprocess.run(ask, capture_output=True, text=True, check=True)
                self._seen.append(float(done.stdout.split()[0]))
            except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
                return


def operations(trainer: CnnTrainer) -> float:
    """Floating-point operations to train on one image: forwards, and twice that backwards but for the images."""
    shape = trainer.shape
    sizes = shape.weight_shapes
    layers = []
    for block, (height, width, _) in enumerate(shape.block_sizes):
        layers.append(2.0 * (2 * height) * (2 * width) * np.prod(sizes[f"conv{block}.kernel"]))
    layers += [2.0 * np.prod(sizes[name]) for name in ("dense.kernel", "classes.kernel")]
    return float(3 * sum(layers) - layers[0])


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16, 64])
    cli.add_argument("--size", type=int, default=64)
    cli.add_argument("--images", type=int, default=2560)
    cli.add_argument("--precision", choices=("auto", "float32", "mixed_bfloat16"), default="auto")
    cli.add_argument("--seconds", type=float, default=3.0, help="at least this long for each figure")
    cli.add_argument("--repeats", type=int, default=3)
    cli.add_argument("--json", action="store_true")
    args = cli.parse_args()
    trainer = CnnTrainer(pictures(args.images, args.size), precision=args.precision)
    precision = trainer.precision
    limit = matmul_rate(precision) / operations(trainer)
    rows = []
    for size in args.sizes:
        with GpuUtilization() as use:
            rates = [examples_per_second(trainer, size, at_least_s=args.seconds) for _ in range(args.repeats)]
        rate = statistics.median(rates)
        first = rows[0]["images_per_s"] if rows else rate
        rows.append(
            {
                "fused_trials": size,
                "images_per_s": round(rate, 1),
                "runs": [round(one, 1) for one in rates],
                "ratio": round(rate / first, 2),
                "share_of_limit": round(rate / limit, 3),
                "gpu_use_percent": use.mean,
                "memory_share": round(memory_share(), 3),
            }
        )
    device = jax.local_devices()[0].device_kind
    result = {"device": device, "precision": precision, "size": args.size, "limit_images_per_s": limit, "rows": rows}
    if args.json:
        print(json.dumps(result))
        return
    print(f"{device}, {precision}, {args.size} px, limit {limit:,.0f} images/s")
    print(f"{'fused_trials':>10} {'images/s':>10} {'of one':>7} {'of limit':>9} {'GPU use':>8}")
    for row in rows:
        use_percent = "" if row["gpu_use_percent"] is None else f"{row['gpu_use_percent']:.0f} %"
        share = f"{100 * row['share_of_limit']:.0f} %"
        print(f"{row['fused_trials']:10} {row['images_per_s']:10,.0f} {row['ratio']:7.2f} {share:>9} {use_percent:>8}")


if __name__ == "__main__":
    main()

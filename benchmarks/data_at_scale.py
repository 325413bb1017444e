"""Many small images: decoding, opening them again from the cache, and the memory of the workers that read them.

    python benchmarks/data_at_scale.py --images 20000 --size 128

Draws JPEG files into a temporary folder, decodes them with an empty cache, and opens them again in fresh processes:
seconds of ``prepare_images`` (what a driver does) and ``open_images`` (what a worker does), imports not counted.
Then two workers at once map the images and read every one; private memory is what only that process holds.
Beside it, per image on one core: Pillow, and TensorFlow's accurate decoding.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL_OPEN_S = 1.0


def draw(folder: Path, n: int, size: int, classes: int = 5) -> None:
    """Smooth pictures, no two the same."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for i in range(n):
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        path = folder / f"class{i % classes}" / f"{i:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(path, quality=90)


def memory_mb() -> dict[str, float]:
    """Resident, proportional and private memory of this process."""
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    kb = {words[0].rstrip(":"): int(words[1]) for words in lines}
    private = kb["Private_Clean"] + kb["Private_Dirty"]
    return {"resident": kb["Rss"] / 1024, "proportional": kb["Pss"] / 1024, "private": private / 1024}


def prepare(folder: str, size: int) -> dict:
    """Seconds of ``prepare_images``."""
    from aifs_tune.data import prepare_images
    from aifs_tune.data_spec import DataSpec

    started = time.perf_counter()
    prepared = prepare_images(DataSpec(folder=Path(folder), image_size=size))
    return {"seconds": time.perf_counter() - started, "location": str(prepared.location)}


def work(location: str) -> dict:
    """Seconds of ``open_images``, and memory before and after reading every image through the trainer's tensor."""
    from aifs_tune.data import open_images
    from aifs_tune.trainers.runtime import resident, tf

    tf.constant(0)
    before = memory_mb()
    started = time.perf_counter()
    images = open_images(Path(location))
    seconds = time.perf_counter() - started
    tensor = resident(images.images)
    total = sum(int(tf.reduce_sum(tf.cast(tensor[i : i + 256], tf.int64))) for i in range(0, len(images.images), 256))
    print("read", flush=True)
    sys.stdin.readline()  # until the other worker has read them too
    return {"seconds": seconds, "sum": total, "before_mb": before, "after_mb": memory_mb()}


def single(folder: str, decoder: str) -> float:
    """Microseconds to decode an image on one core; files are read once before."""
    contents = [path.read_bytes() for path in sorted(Path(folder).glob("*/*.jpg"))[:2000]]
    if decoder == "pillow":
        import io

        import numpy as np
        from PIL import Image

        def decode(content: bytes) -> object:
            return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    else:
        import tensorflow as tf

        def decode(content: bytes) -> object:
            return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")

    decode(contents[0])
    started = time.perf_counter()
    for content in contents:
        decode(content)
    return 1e6 * (time.perf_counter() - started) / len(contents)


def ask(*arguments: str, wait: bool = True):
    """What a fresh process answers."""
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--ask", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    return answer_of(process) if wait else process


def told_together(workers) -> list[dict]:
    """The answers of workers that have all read the images before one measures, and measure before one ends."""
    for worker in workers:
        worker.stdout.readline()
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    answers = [json.loads(worker.stdout.readline()) for worker in workers]
    for worker in workers:
        worker.communicate("\n")
    return answers


def answer_of(process) -> dict:
    """The last line of a process, once it has ended."""
    out, _ = process.communicate("\n")
    if process.returncode:
        sys.exit(f"{' '.join(process.args)} failed")
    return json.loads(out.splitlines()[-1])


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--images", type=int, default=20_000)
    cli.add_argument("--size", type=int, default=128)
    cli.add_argument("--repeats", type=int, default=3)
    cli.add_argument("--json", action="store_true")
    cli.add_argument("--ask", nargs="+", help=argparse.SUPPRESS)
    args = cli.parse_args()
    if args.ask:
        what, *rest = args.ask
        answers = {"prepare": lambda: prepare(rest[0], int(rest[1])), "work": lambda: work(rest[0])}
        print(json.dumps(answers[what]() if what in answers else single(rest[0], what)), flush=True)
        sys.stdin.readline()  # until the other worker has measured its memory too
        return
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder, "pictures")
        pictures.mkdir()
        os.environ["AIFS_TUNE_CACHE"] = str(Path(folder, "cache"))
        draw(pictures, args.images, args.size)
        decoded = ask("prepare", str(pictures), str(args.size))
        opened = [ask("prepare", str(pictures), str(args.size))["seconds"] for _ in range(args.repeats)]
        workers = [ask("work", decoded["location"], wait=False) for _ in range(2)]
        worked = told_together(workers)
        one_core = {name: round(ask(name, str(pictures)), 1) for name in ("pillow", "tensorflow")}
    answer = {
        "images": args.images,
        "size": args.size,
        "array_mb": round(args.images * args.size**2 * 3 / 2**20),
        "decode_images_per_s": round(args.images / decoded["seconds"]),
        "one_core_us_per_image": one_core,
        "open_from_cache_s": round(statistics.median(opened), 3),
        "worker_open_s": round(statistics.median(w["seconds"] for w in worked), 4),
        "worker_mb": [
            {when: {k: round(v) for k, v in w[f"{when}_mb"].items()} for when in ("before", "after")} for w in worked
        ],
    }
    if args.json:
        print(json.dumps(answer))
        return
    print(f"{args.images} JPEG files of {args.size} px, {answer['array_mb']} MB decoded")
    print(
        f"decode      {answer['decode_images_per_s']:8} images/s, reading, checking, caching and all processes included"
    )
    for name, us in one_core.items():
        print(f"  {name:10}{us:8.1f} us an image on one core, decoding alone")
    is_met = "met" if answer["open_from_cache_s"] < GOAL_OPEN_S else "missed"
    print(f"open again  {answer['open_from_cache_s']:8.3f} s (goal under 1 s: {is_met})")
    print(f"  by a worker {answer['worker_open_s']:.4f} s")
    for memory in answer["worker_mb"]:
        before, after = memory["before"], memory["after"]
        told = ", ".join(f"{k} {before[k]} -> {after[k]} MB" for k in before)
        print(f"worker      {told}")


if __name__ == "__main__":
    main()

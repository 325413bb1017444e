"""Many small images: decoding, opening them again from the cache, and the memory of the workers that read them.

    python benchmarks/data_at_scale.py --images 20000 --size 128
    python benchmarks/data_at_scale.py --frames 5000 --size 128

Draws JPEG files into a temporary folder, decodes them with an empty cache, and opens them again in fresh processes:
seconds of ``prepare_images`` (what a driver does) and ``open_images`` (what a worker does), imports not counted.
Then two workers at once map the images and read every one; private memory is what only that process holds.
Beside it, per image on one core: Pillow, and TensorFlow's accurate decoding.

With ``--frames``, FITS files that a manifest lists: seconds of ``prepare_frames`` with an empty cache, in one process
and in one for each CPU in turn, the bytes of both caches compared, seconds of CPU, which say more where others use the
cores too, and the most memory that a reading process took.
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


def draw_frames(folder: Path, n: int, size: int) -> Path:
    """FITS images of noise with a number each, and the manifest that lists them."""
    import numpy as np
    from astropy.io import fits

    generator = np.random.default_rng(0)
    lines = ["path,number"]
    for i in range(n):
        pixels = generator.normal(100, 5, (size, size)).astype(np.float32)
        fits.PrimaryHDU(pixels).writeto(folder / f"{i:06d}.fits")
        lines.append(f"{i:06d}.fits,{generator.normal():.6f}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def read_frames(manifest: str, processes: str) -> dict:
    """Seconds of ``prepare_frames`` with an empty cache, those of the CPU in this process and in all that read for it,
    and the most resident memory of this one and of one of those."""
    import resource

    import pandas  # noqa: F401 - which reads the manifest

    from aifs_tune.config.data import DataSpec
    from aifs_tune.data import prepare_frames

    data = DataSpec(frames={"manifest": Path(manifest), "targets": {"number": {}}})
    with tempfile.TemporaryDirectory(dir=Path(manifest).parent) as cache:
        os.environ["AIFS_TUNE_CACHE"] = cache
        started, began = time.perf_counter(), time.process_time()
        prepared = prepare_frames(data, processes=int(processes))
        seconds, own_s = time.perf_counter() - started, time.process_time() - began
    own, readers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "seconds": seconds,
        "cpu_s": [own_s, readers.ru_utime + readers.ru_stime],
        "bytes": prepared.location.name,
        "own_mb": own.ru_maxrss / 1024,
        "reader_mb": readers.ru_maxrss / 1024,
    }


def compare_frames(folder: Path, n: int, size: int, repeats: int) -> dict:
    """One process and one for each CPU, in turn."""
    manifest = draw_frames(folder, n, size)
    many = len(os.sched_getaffinity(0))
    runs = {processes: [] for processes in (0, many)}
    for _ in range(repeats):
        for processes, found in runs.items():
            found.append(ask("frames", str(manifest), str(processes)))
    if len({run["bytes"] for found in runs.values() for run in found}) > 1:
        sys.exit("the caches differ")
    one, all_cpus = (statistics.median(run["seconds"] for run in found) for found in runs.values())
    pairs = [a["seconds"] / b["seconds"] for a, b in zip(*runs.values(), strict=True)]
    return {
        "frames": n,
        "size": size,
        "processes": many,
        "one_process_frames_per_s": round(n / one),
        "frames_per_s": round(n / all_cpus),
        "ratio": round(one / all_cpus, 2),
        "ratio_of_pairs": [round(pair, 2) for pair in pairs],
        "cpu_s_of_one_process": round(statistics.median(run["cpu_s"][0] for run in runs[0]), 1),
        "cpu_s_own_and_readers": [round(statistics.median(run["cpu_s"][i] for run in runs[many]), 1) for i in range(2)],
        "own_mb": {processes: round(max(run["own_mb"] for run in found)) for processes, found in runs.items()},
        "reader_mb": round(max(run["reader_mb"] for run in runs[many])),
    }


def memory_mb() -> dict[str, float]:
    """Resident, proportional and private memory of this process."""
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    kb = {words[0].rstrip(":"): int(words[1]) for words in lines}
    private = kb["Private_Clean"] + kb["Private_Dirty"]
    return {"resident": kb["Rss"] / 1024, "proportional": kb["Pss"] / 1024, "private": private / 1024}


def prepare(folder: str, size: int) -> dict:
    """Seconds of ``prepare_images``."""
    from aifs_tune.config.data import DataSpec
    from aifs_tune.data import prepare_images

    started = time.perf_counter()
    prepared = prepare_images(DataSpec(folder=Path(folder), image_size=size))
    return {"seconds": time.perf_counter() - started, "location": str(prepared.location)}


def work(location: str) -> dict:
    """Seconds of ``open_images``, and memory before and after reading every image through the trainer's tensor."""
    from aifs_tune.data import open_images
    from aifs_tune.trainers.network.runtime import resident, tf

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
    cli.add_argument("--frames", type=int, help="so many FITS files instead of images")
    cli.add_argument("--size", type=int, default=128)
    cli.add_argument("--repeats", type=int, default=3)
    cli.add_argument("--json", action="store_true")
    cli.add_argument("--ask", nargs="+", help=argparse.SUPPRESS)
    args = cli.parse_args()
    if args.ask:
        what, *rest = args.ask
        answers = {
            "prepare": lambda: prepare(rest[0], int(rest[1])),
            "work": lambda: work(rest[0]),
            "frames": lambda: read_frames(*rest),
        }
        print(json.dumps(answers[what]() if what in answers else single(rest[0], what)), flush=True)
        sys.stdin.readline()  # until the other worker has measured its memory too
        return
    if args.frames:
        with tempfile.TemporaryDirectory() as folder:
            compared = compare_frames(Path(folder), args.frames, args.size, args.repeats)
        print(json.dumps(compared) if args.json else "\n".join(f"{key:26}{value}" for key, value in compared.items()))
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

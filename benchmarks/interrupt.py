"""How soon Ctrl-C is answered: a trainer in the middle of an epoch, and a sweep.

    python benchmarks/interrupt.py --repeats 5

The trainer is signalled half a second into an epoch that takes several seconds, and has answered when
``CnnTrainer.epoch`` raises KeyboardInterrupt; beside it, an epoch that nobody interrupts, which is what one
compiled function for the whole epoch would take to answer. The sweep is signalled while its first trials train;
it has answered when the command has ended, its study stored and Ray's processes stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

GOAL_S = 1.0
SIGNALLED_AFTER_S = 0.5
N_CLASSES = 3


def train(size: int, images: int, repeats: int) -> dict:
    """Seconds of an epoch, and from the signal to the answer of each of ``repeats`` others."""
    import numpy as np

    from aifs_tune.data.images.decode import ImageSet
    from aifs_tune.trainers.models.cnn import CnnTrainer

    pixels = np.random.default_rng(0).integers(0, 256, (images + 32, size, size, 3), dtype=np.uint8)
    labels = (np.arange(images + 32) % N_CLASSES).astype(np.int32)
    parts = np.split(np.arange(images + 32, dtype=np.int32), [images, images + 32])
    trainer = CnnTrainer(ImageSet(pixels, labels, ("a", "b", "c"), *parts, "random"), threads=1)
    trainer.epoch()
    started = time.perf_counter()
    trainer.epoch()
    whole_s = time.perf_counter() - started
    answers = []
    for _ in range(repeats):
        sent: list[float] = []

        def interrupt(sent: list[float] = sent) -> None:
            sent.append(time.perf_counter())
            os.kill(os.getpid(), signal.SIGINT)

        alarm = threading.Timer(SIGNALLED_AFTER_S, interrupt)
        alarm.start()
        try:
            trainer.epoch()
            sys.exit("the epoch was over before the signal: give it more --images")
        except KeyboardInterrupt:
            answers.append(time.perf_counter() - sent[0])
        alarm.join()
        trainer.reset({}, seed=0)
    return {"whole_epoch_s": whole_s, "answers_s": answers}


def stop_a_sweep() -> float:
    """Seconds from the signal to the end of the command."""
    command = [sys.executable, "-m", "aifs_tune"]
    with tempfile.TemporaryDirectory() as folder:
        survey = Path(folder, "survey")
        made = subprocess.run([*command, "simulate-sky", str(survey), "--images", "600"], capture_output=True)
        made.check_returncode()
        run = [
            "run",
            "celestial_cnn",
            "--data",
            str(survey),
            "--storage",
            f"sqlite:///{folder}/lab.db",
            "--workers",
            "2",
        ]
        told = Path(folder, "told.txt")
        with told.open("w") as stderr:
            driver = subprocess.Popen([*command, *run], stderr=stderr, stdout=subprocess.DEVNULL)
            while told.read_text().count(" started ") < 2:
                if driver.poll() is not None:
                    sys.exit(f"the sweep ended by itself:\n{told.read_text()}")
                time.sleep(0.05)
            time.sleep(SIGNALLED_AFTER_S)
            began = time.perf_counter()
            driver.send_signal(signal.SIGINT)
            driver.wait()
            seconds = time.perf_counter() - began
        if "continue" not in told.read_text():
            sys.exit(f"the sweep was not stopped by the signal:\n{told.read_text()}")
    return seconds


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--size", type=int, default=128)
    cli.add_argument("--images", type=int, default=1500, help="of an epoch of the trainer")
    cli.add_argument("--repeats", type=int, default=5)
    cli.add_argument("--json", action="store_true")
    cli.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = cli.parse_args()
    if args.child:
        print(json.dumps(train(args.size, args.images, args.repeats)))
        return
    counts = [f"--{name}={getattr(args, name)}" for name in ("size", "images", "repeats")]
    command = [sys.executable, __file__, "--child", *counts]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    found["sweeps_s"] = [stop_a_sweep() for _ in range(args.repeats)]
    if args.json:
        print(json.dumps({**{k: v for k, v in vars(args).items() if k != "child"}, **found}))
        return
    answers, sweeps = found["answers_s"], found["sweeps_s"]
    print(f"an epoch of {args.images} images of {args.size} px: {found['whole_epoch_s']:.1f} s")
    met = "met" if max(answers) < GOAL_S else "missed"
    print(
        f"the trainer answers after {statistics.median(answers):.2f} s, at worst {max(answers):.2f} s (goal 1 s: {met})"
    )
    print(f"a sweep has ended after {statistics.median(sweeps):.1f} s, at worst {max(sweeps):.1f} s")


if __name__ == "__main__":
    main()

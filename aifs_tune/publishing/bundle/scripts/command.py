"""The command: predict files, and write the answers."""

import argparse
import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
from onnx import member
from reading import UnreadableError
from table import examples_in

HERE = Path(__file__).resolve().parent


def files_in(paths):
    """Files of ``paths``; a folder stands for all files below it, without hidden ones."""
    for path in map(Path, paths):
        if path.is_dir():
            for folder, folders, names in os.walk(path):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
        elif path.exists():
            yield path
        else:
            sys.exit(f"{path}: there is no such file or folder")


def answers(names, values, settings):
    """Rows of the table of answers."""
    for name, row in zip(names, values.astype(np.float32), strict=True):
        classes = settings["classes"]
        best = [classes[int(row[: len(classes)].argmax())]] if classes else []
        yield [name, *best, *row]


def main():
    """Predict the files of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE", help="files or folders of new examples")
    parser.add_argument("-o", "--output", required=True, help="CSV file to write")
    asked = parser.parse_args()
    settings = json.loads((HERE / "predict_onnx.json").read_text(encoding="utf-8"))
    members = [member(HERE / file, settings) for file in settings["members"]]
    titles = [
        f"{target['name']} [{target['unit']}]" if target["unit"] else target["name"] for target in settings["targets"]
    ]
    head = [*(["class"] if settings["classes"] else []), *(f"p_{name}" for name in settings["classes"]), *titles]
    n_rows = 0
    with open(asked.output, "w", newline="", encoding="utf-8") as written:
        table = csv.writer(written, lineterminator="\n")
        table.writerow(["file", *head])
        for file in files_in(asked.files):
            try:
                names, inputs = examples_in(file, settings)
            except (UnreadableError, OSError, csv.Error) as error:
                print(f"left out: {file}: {error}", file=sys.stderr)
                continue
            table.writerows(answers(names, np.mean([predict(inputs) for predict in members], axis=0), settings))
            n_rows += len(names)
    print(f"{n_rows} predictions of {settings['name']}: {asked.output}", file=sys.stderr)
    sys.exit(0 if n_rows else 1)


if __name__ == "__main__":
    main()

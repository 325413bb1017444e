"""Process on TensorFlow that writes the ONNX file of a network which Keras on JAX has loaded.

``python -m aifs_tune.trainers.onnx_process FOLDER FILE CODE...``: the folder of its weights, the file to write, and the
code that may be imported. Why it failed is the last line on standard error.
"""

from __future__ import annotations

import sys
from pathlib import Path

from aifs_tune.config.trusted_code import trust
from aifs_tune.errors import AifsTuneError


def main(folder: str, file: str, *code: str) -> None:
    """Write the network of ``folder`` to ``file``."""
    from aifs_tune.trainers.export import write_onnx
    from aifs_tune.trainers.load import load_network

    trust(code)
    try:
        write_onnx(load_network(Path(folder), precision="float32"), Path(file))
    except AifsTuneError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A member of the model as a network in ONNX."""

import numpy as np
import onnxruntime


def member(file, settings):
    """The function that predicts examples with the network in a file."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return lambda inputs: np.concatenate(session.run(None, dict(zip(names, inputs, strict=True))), axis=1)

"""A member of the model as a network in ONNX."""

import onnxruntime


def member(file, settings):
    """The function that predicts examples with the network in a file."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]

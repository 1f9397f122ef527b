"""Checks ONNX files, and that onnxruntime computes what the engine that wrote them does.

    python check.py CASE.json...

A case names its file, and holds the shape of one example, the numbers of all examples and what the engine makes of
them. Prints what is wrong and leaves with 1, with 0 where nothing is.
"""

import json
import pathlib
import sys

import numpy
import onnx
import onnxruntime

TOLERANCE = 1e-4
NOTES = {"use", "plan_digest", "weights_sha256", "classes", "input_shape"}


def problems(case, folder):
    path = folder / case["file"]
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        yield f"onnx: {error}"
        return
    missing = NOTES - {note.key for note in model.metadata_props}
    if missing:
        yield f"metadata: {', '.join(sorted(missing))} missing"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = numpy.array(case["inputs"], numpy.float32).reshape([-1, *case["shape"]])
    expected = numpy.array(case["expected"], numpy.float32).reshape([len(inputs), -1])
    for at in [slice(None), *(slice(one, one + 1) for one in range(len(inputs)))]:
        [found] = session.run(None, {session.get_inputs()[0].name: inputs[at]})
        if found.shape != expected[at].shape:
            yield f"shape: {found.shape} instead of {expected[at].shape}"
            continue
        difference = numpy.abs(found - expected[at]).max()
        # Written so that what is no number counts as wrong.
        if not difference <= TOLERANCE:
            yield f"values: {difference} apart at {at}"


def main():
    wrong = 0
    for path in map(pathlib.Path, sys.argv[1:]):
        for problem in problems(json.loads(path.read_text()), path.parent):
            print(f"{path.stem}: {problem}")
            wrong += 1
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

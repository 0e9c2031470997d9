"""Speed and memory of the core: prints ratios that were measured side by side in one run. Never a test.

Run: python -m tests.benchmarks.core
"""

import resource
import statistics
import subprocess
import sys
import time

import numpy as np

import helpers
from helpers import engine, images, models, submodels
from tests import zoo


def side_by_side(first, second, rounds=9):
    """Median seconds of two functions, called in turn so that a machine that drifts drifts for both."""
    times = ([], [])
    for function in (first, second):
        function()  # compiles
    for _ in range(rounds):
        for function, record in zip((first, second), times, strict=True):
            start = time.perf_counter()
            function()
            record.append(time.perf_counter() - start)
    return tuple(map(statistics.median, times))


def row(what, value, wanted):
    print(f"{what:<78} {value:>10}   (wanted {wanted})")


def imports():
    """Seconds of `import helpers` and its rooms beyond those of TensorFlow."""
    script = (
        "import time, tensorflow, keras, numpy; tensorflow.zeros(1); t = time.perf_counter(); import helpers;"
        "from helpers import engine, submodels, models; print(time.perf_counter() - t)"
    )
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True) for _ in range(3)]
    row("import helpers, beyond TensorFlow", f"{min(float(r.stdout) for r in runs):.2f} s", "≤ 0.3 s")


def loading():
    start = time.perf_counter()
    model = models.load("efficientnet_lite0")
    row("models.load('efficientnet_lite0')", f"{time.perf_counter() - start:.2f} s", "≤ 3 s")
    return model


def passes(model):
    batch = images.batch(*[images.sample(name) for name in images.samples()[:8]])
    forward = engine.compiled(model)
    every = engine.compiled(submodels.activations(model, submodels.layer_names(model)))
    one, all_layers = side_by_side(lambda: forward(batch), lambda: every(batch))
    row("activations of all layers ÷ one forward pass, 8 pictures", f"{all_layers / one:.2f} ×", "≤ 2.5 ×")

    unfolded = zoo.efficientnet_lite0()
    folded = engine.compiled(submodels.fold_batchnorm(unfolded))
    unfolded = engine.compiled(unfolded)
    slow, fast = side_by_side(lambda: unfolded(batch), lambda: folded(batch))
    row("forward pass, BatchNorm as it is ÷ folded, 8 pictures", f"{slow / fast:.2f} ×", "≥ 1.4 ×")


def memory(model):
    """Peak memory while the number of inputs grows."""
    peaks = []
    for count in (64, 512):
        rows = (np.zeros((224, 224, 3), "float32") for _ in range(count))
        for _ in engine.stream(model, rows, batch=16):
            pass
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    row("peak memory after 64 and after 512 streamed pictures", f"{peaks[0]:.0f}, {peaks[1]:.0f} MB", "the same")


if __name__ == "__main__":
    import keras
    import tensorflow as tf

    print(f"{time.strftime('%Y-%m-%d')}, TensorFlow {tf.__version__}, Keras {keras.__version__}, {helpers.__name__}\n")
    imports()
    network = loading()
    passes(network)
    memory(network)

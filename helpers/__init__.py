"""Thin Keras sub-model builders, and the visualisations that stand on them.

Every visualisation is: build a sub-model, run it over a batch, reduce the result to a picture.
"""

import contextlib
import os
import sys

import lazy_loader

# Where the collection is published. The badges and the bootstrap cells repeat it; a test holds them together.
REPOSITORY = "OWNER/see-convnets"
BRANCH = "main"


@contextlib.contextmanager
def _quiet():
    """Silence TensorFlow's C++ log, which ignores Python's logging and would land in notebook outputs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


with _quiet():
    import tensorflow

    tensorflow.zeros(1)  # the first operation starts the devices, which log once more

# One compiled function for each network and layer is what this package is about; TensorFlow takes it for a mistake.
tensorflow.get_logger().addFilter(lambda record: "triggered tf.function retracing" not in record.getMessage())

# `from helpers import cam` finds attribution/cam.py, and imports nothing else: `__init__.pyi` is the map.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

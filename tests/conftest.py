"""What every test starts from, and what it must not leave behind."""

import helpers  # noqa: F401, I001  (before Keras: it imports TensorFlow without its log)

import keras
import matplotlib
import matplotlib.pyplot
import pytest

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def same_start_and_no_open_figures():
    keras.utils.set_random_seed(0)
    yield
    matplotlib.pyplot.close("all")

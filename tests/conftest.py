"""What every test starts from, and what it must not leave behind."""

import helpers  # noqa: F401, I001  (before Keras: it imports TensorFlow without its log)

import keras
import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest

from tests import zoo

matplotlib.use("Agg")


LONG = ("test_explorers.py", "02_", "04_", "03_", "06_", "05_", "01_", "test_app.py")


def pytest_collection_modifyitems(items):
    """Files that take minutes come first: at the end no worker waits for the other."""

    def place(item):
        return next((place for place, name in enumerate(LONG) if item.path.name.startswith(name)), len(LONG))

    items.sort(key=place)


@pytest.fixture(autouse=True)
def same_start_and_no_open_figures():
    keras.utils.set_random_seed(0)
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture(autouse=True, scope="session")
def shared_networks_are_left_as_they_were():
    yield
    for model, weights in zoo.BUILT:
        for found, wanted in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(found, wanted, err_msg=f"a test has changed {model.name} of zoo.common")

"""engine: one trace, fixed batches, nothing kept that nobody needs."""

import gc
import threading
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import engine
from tests import zoo


@pytest.mark.parametrize("count", [1, 5, 16, 33])
def test_run_equals_the_model_row_by_row(count):
    model, pictures = zoo.build("functional"), zoo.pictures(count)
    rows = np.concatenate([model(picture[None], training=False) for picture in pictures])
    np.testing.assert_allclose(engine.run(model, pictures), rows, atol=1e-6)  # float32, values up to 1


def test_batches_of_1_and_33_give_the_same_rows():
    model, pictures = zoo.build("residual"), zoo.pictures(33)
    together = engine.run(model, pictures)
    for index in (0, 16, 32):
        np.testing.assert_allclose(engine.run(model, pictures[index : index + 1])[0], together[index], rtol=1e-5)


def test_a_model_is_traced_once_for_all_batch_sizes():
    model = zoo.build("functional")
    for count in (1, 2, 16, 33):
        engine.run(model, zoo.pictures(count), batch=16)
    assert engine.compiled(model).experimental_get_tracing_count() == 1
    assert engine.compiled(model) is engine.compiled(model)


@pytest.mark.parametrize(
    ("count", "batch", "wanted"),
    [
        (8, 8, [4, 4]),
        (10, 8, [3, 3, 2, 2]),
        (16, 8, [4, 4, 4, 4]),
        (3, 8, [3]),
        (50, 16, [7, 7, 6, 6, 6, 6, 6, 6]),
        (7, 11, [4, 3]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_passes_are_as_equal_as_can_be_and_none_has_more_rows_than_half_a_batch(monkeypatch, count, batch, wanted):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    sizes = []

    def double(x):
        sizes.append(len(x))
        return {"double": 2 * x}

    result = engine.run(double, np.arange(float(count)), batch=batch)
    assert sorted(sizes, reverse=True) == wanted  # two run side by side: which one is heard of first is chance
    np.testing.assert_array_equal(result["double"], 2 * np.arange(float(count)))


def test_inputs_of_an_unknown_or_a_wrong_length_are_read_to_their_end():
    values = np.arange(11.0)
    np.testing.assert_array_equal(engine.run(lambda x: x, iter(values), batch=4), values)
    np.testing.assert_array_equal(engine.run(lambda x: x, engine.Counted(values, 3), batch=4), values)
    with pytest.raises(ValueError, match="shorter|longer"):
        engine.run(lambda x, y: x, values, iter(values[:5]), batch=4)


def test_two_passes_run_side_by_side_and_no_more_than_a_batch_is_computed_at_a_time(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    together, rows, most = threading.Barrier(2, timeout=60), [], []

    def slow(x):
        rows.append(len(x))
        most.append(sum(rows))
        together.wait()  # comes back only if another pass is under way
        rows.pop()
        return x

    values = np.arange(64.0)
    np.testing.assert_array_equal(engine.run(slow, values, batch=8), values)  # in the order of the inputs
    assert max(most) == 8


def test_a_gpu_gets_one_pass_at_a_time(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"] if kind == "GPU" else [])
    sizes = []
    engine.run(lambda x: sizes.append(len(x)) or x, np.zeros(32), batch=16)
    assert sizes == [16, 16]


def test_inputs_may_be_iterables_and_are_read_only_a_little_ahead():
    read = []

    def rows():
        for index in range(100):
            read.append(index)
            yield np.full(3, index, "float32")

    parts = engine.stream(lambda x: tf.reduce_sum(x, 1), rows(), batch=8)
    first = next(parts)
    assert len(read) <= 16
    np.testing.assert_array_equal(np.concatenate([first, *parts]), 3 * np.arange(100))


def test_a_pass_that_fails_says_so_where_it_was_asked_for_and_nothing_runs_on():
    before = threading.active_count()

    def fails(x):
        raise ZeroDivisionError("in the pass")

    with pytest.raises(ZeroDivisionError, match="in the pass"):
        engine.run(fails, np.zeros(100))
    parts = engine.stream(lambda x: x, np.zeros(100), batch=4)
    next(parts)
    parts.close()
    assert threading.active_count() == before


def test_cache_lives_as_long_as_the_model():
    model = zoo.build("sequential")
    engine.cached(model, "key", lambda network=model: [network])  # the result refers to the model
    assert engine.cached(model, "key", lambda: pytest.fail("built twice"))[0] is model
    engine.compiled(model)
    watcher = weakref.ref(model)
    del model
    gc.collect()
    assert watcher() is None


def test_cache_is_no_part_of_the_network():
    model = zoo.build("functional")
    before = (len(model.weights), len(model.layers), model.get_config())
    engine.compiled(model)
    engine.cached(model, "twin", lambda: zoo.build("sequential"))
    assert (len(model.weights), len(model.layers), model.get_config()) == before


def test_bad_runs_are_refused_in_words():
    model = zoo.build("functional")
    with pytest.raises(ValueError, match="different lengths"):
        engine.run(lambda a, b: a + b, np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="batch=0"):
        engine.run(model, zoo.pictures(1), batch=0)
    with pytest.raises(ValueError, match="empty"):
        engine.run(model, zoo.pictures(0))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((16, 16)), "give \\(B, H, W, C\\)"),
        (np.zeros((2, 17, 16, 3)), "16 × 16 × 3.*17 × 16 × 3"),
        (np.zeros((16, 16, 1)), "16 × 16 × 1"),
        (np.zeros((0, 16, 16, 3)), "empty"),
        (np.full((16, 16, 3), np.nan), "NaN"),
    ],
)
def test_pictures_that_the_model_does_not_take(images, message):
    with pytest.raises(ValueError, match=message):
        engine.as_batch(zoo.build("functional"), images)


def test_as_batch_keeps_values_and_knows_one_picture_from_many():
    model = zoo.build("functional")
    one = np.arange(16 * 16 * 3, dtype="uint8").reshape(16, 16, 3)
    batch, single = engine.as_batch(model, one)
    assert single and batch.dtype == np.float32 and batch.shape == (1, 16, 16, 3)
    np.testing.assert_array_equal(batch[0], one)
    assert engine.as_batch(model, one[None])[1] is False


def test_a_model_of_several_outputs_keeps_its_structure():
    model, pictures = zoo.build("two_outputs"), zoo.pictures(5)
    result = engine.run(model, pictures, batch=2)
    assert {name: value.shape for name, value in result.items()} == {"kind": (5, 5), "size": (5, 1)}
    assert isinstance(model, keras.Model)


def test_what_watches_the_passes_sees_each_and_can_end_them():
    seen = []

    def tell(rows):
        seen.append(rows)
        if len(seen) == 3:
            raise InterruptedError

    with engine.watched(tell), pytest.raises(InterruptedError):
        engine.run(lambda x: x, np.zeros((50, 2)), batch=1)
    assert seen == [1, 1, 1]
    engine.run(lambda x: x, np.zeros((50, 2)))
    assert len(seen) == 3

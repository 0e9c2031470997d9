"""space: vectors and their similarity, against scikit-learn and by construction."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

from helpers import engine, space, submodels
from tests import zoo


def test_describe_is_the_mean_over_positions():
    model, pictures = zoo.build("functional"), zoo.pictures(5)
    vectors = space.describe(model, pictures, ["conv1", "answer"], batch=2)
    maps = engine.run(submodels.activations(model, "conv1"), pictures)["conv1"]
    np.testing.assert_allclose(vectors["conv1"], maps.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(vectors["answer"], model(pictures), atol=1e-6)  # a vector already


def test_describe_does_not_care_where_something_is():
    model = zoo.build("functional")
    picture = np.zeros((16, 16, 3), "float32")
    picture[4:6, 4:6] = 1
    vectors = space.describe(model, np.stack([picture, np.roll(picture, (3, 5), (0, 1))]), "conv1")["conv1"]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_one_picture_has_one_vector_and_a_list_is_as_good_as_an_array():
    model, pictures = zoo.build("functional"), zoo.pictures(3)
    vectors = space.describe(model, pictures, "conv1")["conv1"]
    one = space.describe(model, pictures[0], "conv1")["conv1"]
    assert one.shape == (1, 6)
    np.testing.assert_allclose(one, vectors[:1], atol=1e-6)
    for again in (list(pictures), iter(pictures), pictures.astype("float64")):
        np.testing.assert_allclose(space.describe(model, again, "conv1")["conv1"], vectors, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "layers", "message"),
    [
        (np.zeros((2, 8, 16, 3)), "conv1", "16 × 16 × 3"),
        (np.zeros((16, 12, 3)), "conv1", "16 × 16 × 3"),
        (np.zeros((16, 16)), "conv1", "shape \\(16, 16\\)"),
        ([np.zeros((16, 16, 3)), np.zeros((8, 16, 3))], "conv1", "one size"),
        ("koala.jpg", "conv1", "not the path"),
        (tf.data.Dataset.range(3), "conv1", "tf.data.Dataset"),
        (np.full((1, 16, 16, 3), np.nan), "conv1", "NaN"),
        (np.zeros((0, 16, 16, 3)), "conv1", "empty"),
        (np.zeros((1, 16, 16, 3)), "conv9", "no layer 'conv9'"),
        (np.zeros((1, 16, 16, 3)), [], "No layer is asked for"),
    ],
)
def test_what_cannot_be_described_is_refused_in_words(images, layers, message):
    with pytest.raises(ValueError, match=message):
        space.describe(zoo.build("functional"), images, layers)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_describe_averages_in_float32(policy):
    """With maps whose sum over the positions is beyond what float16 holds."""
    picture = keras.Input((16, 16, 3), name="image")
    model = keras.Model({"image": picture}, keras.layers.Conv2D(2, 1, name="conv", dtype=policy)(picture))
    model.set_weights([np.full((1, 1, 3, 2), 0.5), np.array([5000.0, 1000.0])])
    found = space.describe(model, np.full((2, 16, 16, 3), 2.0), "conv")["conv"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[5003, 1003]] * 2, rtol=0.01)


def test_a_subclassed_model_and_a_layer_of_several_outputs_are_refused():
    class Net(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="Python code"):
        space.describe(Net(), np.zeros((1, 16, 16, 3)), "conv")
    picture = keras.Input((8, 8, 3))
    states = keras.layers.LSTM(4, return_state=True, name="states")(keras.layers.Reshape((8, 24))(picture))
    with pytest.raises(ValueError, match="'states' of .* several outputs"):
        space.describe(keras.Model(picture, states[0]), np.zeros((1, 8, 8, 3)), "states")


def test_similarity_equals_scikit_learn():
    vectors = np.random.default_rng(0).normal(3, 2, (7, 20)) * np.arange(20)  # channel 0 never changes
    wanted = cosine_similarity(StandardScaler().fit_transform(vectors[:, 1:]))
    np.testing.assert_allclose(space.similarity(vectors), wanted, atol=1e-6)


def test_neighbours_find_the_planted_twin():
    vectors = np.random.default_rng(0).normal(0, 1, (4, 30))
    twins = np.concatenate([vectors, vectors + np.random.default_rng(1).normal(0, 0.1, vectors.shape)])
    np.testing.assert_array_equal(space.neighbours(twins)[:, 0], [4, 5, 6, 7, 0, 1, 2, 3])


@pytest.mark.parametrize(("vectors", "message"), [(np.ones((5, 3)), "all the same"), (np.ones((2, 3)), "three pict")])
def test_nothing_to_compare(vectors, message):
    with pytest.raises(ValueError, match=message):
        space.similarity(vectors)
    with pytest.raises(ValueError, match="1 to 4 neighbours"):
        space.neighbours(np.random.default_rng(0).normal(0, 1, (5, 3)), count=5)

"""space: vectors and their similarity, against scikit-learn and by construction."""

import numpy as np
import pytest
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

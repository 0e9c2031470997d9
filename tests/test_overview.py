"""The large figure: every panel is what its own room computes."""

import numpy as np

from helpers import deconv, dream, engine, inversion, overview, submodels
from tests import zoo

DREAM = {"octaves": 1, "steps": 2, "jitter": 0, "progress": False}
INVERT_ONLY = {"steps": 3}
INVERT = INVERT_ONLY | {"progress": False}


def photograph():
    return np.random.default_rng(0).uniform(0, 255, (16, 16, 3)).astype("float32")


def test_every_view_is_what_the_rooms_compute():
    model, picture = zoo.build("residual"), photograph()
    found = overview.views(
        model, picture, ["stem", "join"], {"octaves": 1, "steps": 2, "jitter": 0}, INVERT_ONLY, False
    )
    assert [view.layer for view in found] == ["stem", "join"]
    for view in found:
        maps = engine.run(submodels.activations(model, view.layer), picture[None])[view.layer][0]
        assert view.channel == maps[2:-2, 2:-2].max((0, 1)).argmax()
        np.testing.assert_array_equal(view.activation, maps[..., view.channel])
        projected = deconv.project(model, picture, view.layer, view.channel, "all")
        np.testing.assert_allclose(view.projection, projected, atol=1e-5)
        np.testing.assert_allclose(view.dream, dream.deep_dream(model, picture, view.layer, **DREAM).picture, atol=1e-3)
        inverted = inversion.invert(model, picture, view.layer, **INVERT)
        np.testing.assert_allclose(view.reconstruction, inverted.picture, atol=1e-3)


def test_options_may_differ_by_layer():
    model, picture = zoo.build("residual"), photograph()
    gentle, strong = ({"octaves": 1, "steps": 1, "jitter": 0, "step": step} for step in (0.5, 4.0))
    found = overview.views(model, picture, ["stem", "join"], {"stem": gentle, "join": strong}, INVERT_ONLY, False)
    change = [np.abs(view.dream - picture).mean() for view in found]
    assert change[1] > 2 * change[0]


def test_portrait_is_one_figure_with_a_row_for_each_layer():
    options = {"dream_options": {"octaves": 1, "steps": 1, "jitter": 0}, "invert_options": {"steps": 1}}
    figure = overview.portrait(zoo.build("residual"), photograph(), ["stem", "join"], progress=False, **options)
    assert sum(bool(axis.images) for axis in figure.axes) == 8

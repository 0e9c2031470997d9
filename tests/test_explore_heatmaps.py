"""`explore.heatmaps`: each panel shows what the method gives, or says why it gives nothing."""

import keras
import numpy as np
import pytest

from helpers import cam, explore, gradients, images, models, perturbation, relevance
from helpers.explorers import frame, heatmaps
from tests import zoo
from tests.test_explore import check_the_rules, decoded, encoded, noise, parts, upload

SOON = 300  # seconds


def choose(explorer, *names):
    """Compare these methods."""
    for menu, name in zip(explorer.menus, [*names, *["–"] * 6], strict=False):
        menu.value = name


def compute(explorer):
    explorer.computing.begin.click()
    explorer.computing.wait(SOON)
    assert explorer.problem.value == ""


@pytest.fixture
def small():
    return explore.heatmaps(zoo.build("functional"), pictures={"one": noise(1), "two": noise(2)})


def colours(values, end, signed=True):
    cmap, limits = ("RdBu_r", (-end, end)) if signed else ("inferno", (0, end))
    return frame.enlarged(images.colorize(values, cmap, limits))


def test_every_panel_shows_what_its_method_gives(small):
    small.chooser.menu.value, small.search.value = "two", "3"
    choose(small, "saliency", "HiRes-CAM", "LRP composite", "integrated gradients", "RISE", "occlusion")
    compute(small)
    call = small.model, noise(2).astype("float32"), 3
    rise = perturbation.rise(*call, masks=500, progress=False)
    expected = [
        gradients.saliency(*call).sum(-1),
        cam.hires_cam(*call),
        relevance.lrp(*call).sum(-1),
        gradients.integrated_gradients(*call, progress=False).sum(-1),
        rise - rise.mean(),
        perturbation.occlusion(*call, progress=False),
    ]
    for panel, values in zip(small.panels, expected, strict=True):
        end = np.percentile(np.abs(values), 99.5)
        shown = decoded(panel).astype(int)
        assert np.abs(shown - colours(values, end)).max() <= 4, panel.caption  # passes differ in their last bits
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 10
        low, high = (float(number) for number in panel.caption.rstrip(".").split("Colours from ")[1].split(" to "))
        np.testing.assert_allclose([low, high], [-end, end], rtol=0.06)  # two digits
    assert len(small._missing()) == 0


def test_quick_methods_are_there_at_once_and_the_others_when_asked(small):
    choose(small, "Grad-CAM", "SmoothGrad")
    assert "Grad-CAM: 1 pass, " in small.panels[0].caption and (decoded(small.panels[0]) != 235).any()
    assert "Press" in small.panels[1].caption and (decoded(small.panels[1]) == 235).all()
    assert not small.panels[2].is_shown
    compute(small)
    assert "SmoothGrad: 50 passes, " in small.panels[1].caption and (decoded(small.panels[1]) != 235).any()


def test_each_result_is_computed_once(small, monkeypatch):
    calls = []

    def counted(model, picture, target):
        calls.append((picture.sum(), target))
        return np.ones((16, 16), "float32")

    method = heatmaps.METHODS["Grad-CAM"]._replace(call=counted)
    monkeypatch.setitem(heatmaps.METHODS, "Grad-CAM", method)
    other = (small.target.value + 1) % 5
    choose(small, "Grad-CAM", "Grad-CAM")
    small.target.value = other
    assert [target for _, target in calls] == [other]
    calls.clear()
    small.laid.value = small.shared.value = small.values.value = True
    small.chooser.menu.value = "two"
    small.chooser.menu.value = "one"
    small.target.value = other
    picture = noise(2).astype("float32")
    assert calls == [(picture.sum(), small.model(picture[None]).numpy().argmax())]  # the others were there already


def test_shared_scale(small):
    choose(small, "saliency", "gradient × input")
    own = [panel.image.value for panel in small.panels[:2]]
    small.shared.value = True
    call = small.model, noise(1).astype("float32"), small.target.value
    both = [method(*call).sum(-1) for method in (gradients.saliency, gradients.gradient_x_input)]
    ends = [np.percentile(np.abs(values), 99.5) for values in both]
    for panel, values in zip(small.panels, both, strict=False):
        assert np.abs(decoded(panel).astype(int) - colours(values, max(ends))).max() <= 4
    assert max(ends) > 2 * min(ends)
    small.shared.value = False
    assert [panel.image.value for panel in small.panels[:2]] == own


def test_magnitudes_where_papers_show_them_and_maps_over_the_photograph(small):
    choose(small, "saliency", "gradient × input")
    before = small.panels[1].image.value
    small.values.value = True
    values = np.abs(gradients.saliency(small.model, noise(1).astype("float32"), small.target.value)).max(-1)
    end = np.percentile(values, 99.5)
    assert np.abs(decoded(small.panels[0]).astype(int) - colours(values, end, signed=False)).max() <= 4
    assert small.panels[1].image.value == before
    small.laid.value = True
    laid = frame.enlarged(images.overlay(noise(1), values, 0.8, "inferno", (0, end), fade=True))
    assert np.abs(decoded(small.panels[0]).astype(int) - laid).max() <= 4


def test_class_from_the_menu_and_by_number(small):
    scores = small.model(noise(1)[None].astype("float32")).numpy()[0]
    order = np.argsort(-scores)
    assert small.target.value == order[0]
    for control, value, index in ((small.target, int(order[2]), 2), (small.search, str(order[1]), 1)):
        control.value = value
        share = f"{scores[order[index]]:.1%}".replace("%", " %")
        assert small.target.value == order[index] and f"class {order[index]}" in small.about.value
        assert share in small.about.value
    small.chooser.menu.value = "two"
    assert "first time" not in small.panels[0].caption
    assert small.target.value == small.model(noise(2)[None].astype("float32")).numpy().argmax()


def test_a_method_that_refuses_says_why_and_the_others_go_on():
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, 3, activation="tanh", name="conv"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(12),
        ]
    )
    explorer = explore.heatmaps(model, pictures={"one": noise(1)})
    choose(explorer, "guided backprop", "saliency", "occlusion")
    with pytest.raises(ValueError) as refused:
        gradients.guided_backprop(model, noise(1), 0)
    assert str(refused.value) in explorer.panels[0].caption and explorer.problem.value == ""
    compute(explorer)
    for panel in explorer.panels[1:3]:
        assert len(np.unique(decoded(panel).reshape(-1, 3), axis=0)) > 10, panel.caption


def test_any_error_of_a_method_is_told_and_the_others_go_on(small, monkeypatch):
    def broken(model, picture, target):
        raise TypeError("Could not generate a generic TraceType\nand sixty lines more")

    monkeypatch.setitem(heatmaps.METHODS, "Eigen-CAM", heatmaps.METHODS["Eigen-CAM"]._replace(call=broken))
    choose(small, "Eigen-CAM", "Grad-CAM")
    caption = small.panels[0].caption
    assert "TypeError: Could not generate a generic TraceType" in caption and "sixty" not in caption
    assert "1 pass" in small.panels[1].caption and small.problem.value == ""


def test_maps_of_the_answer_no():
    from tests.test_explore_occluder import head

    model = head(1, "sigmoid")
    explorer = explore.heatmaps(model, pictures={"one": noise(1)}, labels=["cat", "dog"])
    choose(explorer, "saliency")
    yes = gradients.saliency(model, noise(1), 0).sum(-1)
    for index, expected in ((1, yes), (0, -yes)):
        explorer.target.value = index
        shown = decoded(explorer.panels[0]).astype(int)
        assert np.abs(shown - colours(expected, np.percentile(np.abs(yes), 99.5))).max() <= 4
        assert f"class {index}, {['cat', 'dog'][index]}" in explorer.about.value


def test_every_menu_stands_above_its_map(small):
    for menu, panel in zip(small.menus, small.panels, strict=True):
        assert any(getattr(part, "children", None) == (menu, panel) for part in parts(small))
    assert [menu.value for menu in small.menus][:2] == ["Grad-CAM", "LRP composite"]  # what looks like noise comes last


def test_a_network_without_classes():
    explorer = explore.heatmaps(models.load("vgg19", size=64), pictures=["koala"])
    assert explorer.target.disabled and explorer.search.disabled and "no classes" in explorer.about.value
    choose(explorer, "saliency", "Eigen-CAM")
    assert "not one number for each class" in explorer.panels[0].caption
    expected = cam.eigen_cam(explorer.model, explorer.gallery["koala"])
    shown = decoded(explorer.panels[1]).astype(int)
    assert np.abs(shown - colours(expected, np.percentile(np.abs(expected), 99.5), signed=False)).max() <= 4
    check_the_rules(explorer)


def test_stop_ends_a_method_within_it_and_keeps_what_is_there(small, monkeypatch):
    choose(small, "SmoothGrad", "RISE", "occlusion")
    run = gradients.smoothgrad

    def pressed(*arguments, **options):
        small.computing.stop.click()
        return run(*arguments, **options)

    method = heatmaps.METHODS["RISE"]._replace(call=pressed)
    monkeypatch.setitem(heatmaps.METHODS, "RISE", method)
    compute(small)
    assert "Stopped at 1 of 3." in small.status.value
    assert "SmoothGrad: 50 passes" in small.panels[0].caption
    assert "Press" in small.panels[1].caption and "Press" in small.panels[2].caption
    monkeypatch.undo()
    compute(small)
    assert "RISE (less its mean): 500 passes" in small.panels[1].caption


def test_methods_that_are_asked_for_are_computed_before_it_returns():
    explorer = explore.heatmaps(zoo.build("transfer"), pictures={"one": noise(1)}, methods=["SmoothGrad", "RISE"])
    assert "SmoothGrad: 50 passes" in explorer.panels[0].caption and "500 passes" in explorer.panels[1].caption
    with pytest.raises(ValueError, match="no method 'SmothGrad'. Nearest: 'SmoothGrad'"):
        explore.heatmaps(zoo.build("transfer"), pictures={"one": noise(1)}, methods=["SmothGrad"])
    with pytest.raises(ValueError, match="7 are too many"):
        explore.heatmaps(zoo.build("transfer"), pictures={"one": noise(1)}, methods=["saliency"] * 7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["functional", "transfer", "two_levels"])
def test_all_methods_on_networks_of_every_build(name):
    explorer = explore.heatmaps(zoo.build(name), pictures={"one": noise(1)})
    names = list(heatmaps.METHODS)
    for first in range(0, len(names), 6):
        choose(explorer, *names[first : first + 6])
        compute(explorer)
        for panel in explorer.panels:
            if panel.is_shown and "not possible here" not in panel.caption:
                assert " pass" in panel.caption and (decoded(panel) != 235).any(), panel.caption


@pytest.mark.slow
def test_digits_photographs_and_uploads():
    explorer = explore.heatmaps(models.load("mnist_cnn"))
    check_the_rules(explorer)
    assert not cam.grad_cam(explorer.model, explorer.gallery["digit 0"]).any()
    assert explorer.panels[0].caption.endswith(" s the first time. Zero everywhere.")
    upload(explorer.chooser, "mine.png", encoded(noise(4, (40, 40, 3)), "PNG"))
    assert explorer.chooser.value == "mine.png" and explorer.problem.value == ""
    explorer = explore.heatmaps()
    assert explorer.target.options[0][0].startswith("koala: ") and "koala" in explorer.about.value
    check_the_rules(explorer)

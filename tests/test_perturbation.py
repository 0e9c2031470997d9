"""Perturbation methods against closed forms, brute force, and their slow obvious twins."""

import functools
import itertools
import math
import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers import engine, images, models, perturbation, submodels
from helpers.attribution import incremental, masking, shared, surrogates

from . import zoo

L = keras.layers
METHODS = {
    "occlusion": (perturbation.occlusion, {}),
    "rise": (perturbation.rise, {"masks": 24}),
    "lime": (perturbation.lime, {"samples": 24, "count": 6}),
    "kernel_shap": (perturbation.kernel_shap, {"samples": 64, "count": 6}),
    "sobol": (perturbation.sobol, {"cells": 2, "designs": 4}),
    "meaningful_perturbation": (perturbation.meaningful_perturbation, {"steps": 3}),
}
GRID = np.arange(16).reshape(4, 4).repeat(4, 0).repeat(4, 1)  # 16 × 16 pixels in 4 × 4 squares


def run(method, *arguments, **options):
    return getattr(perturbation, method)(*arguments, **{"progress": False, **options})


def network(function, size=(16, 16, 3)):
    """A network without weights that puts out `function(pictures)` as its first of two classes."""
    picture = keras.Input(size)
    score = L.Lambda(lambda x: tf.stack([function(x), 0 * function(x)], -1), output_shape=(2,))(picture)
    return keras.Model(picture, score)


@functools.cache  # no test changes it
def linear(seed=0, size=(16, 16, 3), bias=0.7):
    """A linear network, and its weights `(H, W, C)`."""
    weights = np.random.default_rng(seed).normal(0, 1, size).astype("float32")
    model = keras.Sequential([keras.Input(size), L.Flatten(), L.Dense(2)])
    model.set_weights([np.stack([weights.ravel(), weights.ravel()[::-1]], -1), np.float32([bias, 0])])
    return model, weights


def of_parts(picture, parts, function):
    """A network that puts out a function of how much of each part is shown, the rest being zero."""
    sums = np.stack([(parts == part).astype("float32") for part in range(parts.max() + 1)])
    whole = np.einsum("shw,hwc->s", sums, picture)

    def score(x):
        return function(tf.einsum("shw,bhwc->bs", sums, x) / whole)

    return network(score, picture.shape)


# --- occlusion


@pytest.mark.parametrize(
    ("patch", "stride"), [(4, 4), (4, 2), (5, 3), (1, 1), (16, 16), ((3, 6), (2, 5)), ((16, 2), (1, 2)), (None, None)]
)
@pytest.mark.parametrize("fill", [0, (1.0, -2.0, 0.5), "mean", "blur", "noise", "picture"])
def test_occlusion_of_a_linear_network_is_exact(patch, stride, fill):
    model, weights = linear()
    pictures = zoo.pictures(2)
    fill = zoo.pictures(1, seed=9)[0] if fill == "picture" else fill
    found = run("occlusion", model, pictures, 0, patch, stride, fill)
    filled = masking.fills(shared.prepare(model, pictures, 0), fill)
    pixel_drop = ((pictures - filled) * weights).sum(-1)
    height, width = (patch, patch) if isinstance(patch, int) else patch or (2, 2)
    down, across = (stride, stride) if isinstance(stride, int) else stride or (1, 1)
    total, times = np.zeros((2, 2, 16, 16))
    for top in {*range(0, 16 - height + 1, down), 16 - height}:
        for left in {*range(0, 16 - width + 1, across), 16 - width}:
            window = np.s_[:, top : top + height, left : left + width]
            total[window] += pixel_drop[window].sum((1, 2), keepdims=True)
            times[window] += 1
    assert (times > 0).all()
    np.testing.assert_allclose(found, total / times, atol=2e-4)


def test_fills_are_what_they_say():
    pictures = zoo.pictures(3) * [5, 1, 2] + [100, 0, -3]
    task = shared.prepare(zoo.build("residual"), pictures, 0)
    mean, blur, noise = (masking.fills(task, fill) for fill in ("mean", "blur", "noise"))
    np.testing.assert_allclose(mean[:, 3, 5], task.images.mean((1, 2)), rtol=1e-5)
    assert np.ptp(mean, (1, 2)).max() == 0 and blur.std((1, 2)).max() < task.images.std((1, 2)).max()
    np.testing.assert_allclose(blur.mean((1, 2)), task.images.mean((1, 2)), atol=0.5)
    np.testing.assert_allclose(noise.std((1, 2)), task.images.std((1, 2)), rtol=0.25)
    assert noise.min() >= task.images.min() and noise.max() <= task.images.max()
    one = shared.prepare(zoo.build("residual"), pictures[1:2], 0)
    np.testing.assert_array_equal(masking.fills(one, "noise")[0], noise[1])
    assert (masking.fills(task, "noise", seed=1) != noise).any()


def test_occlusion_gives_the_classes_and_the_scores_of_each_position():
    model, picture = zoo.build("residual"), zoo.pictures(1)[0]
    bias = model.get_layer("dense").bias
    bias.assign_sub(model(picture[None])[0])  # all classes are level: each change decides
    found = run("occlusion", model, picture, 2, 5, 3, 0.0, return_classes=True)
    assert isinstance(found, perturbation.Occlusion) and found.classes.dtype == "int32"
    np.testing.assert_array_equal(found.tops, [0, 3, 6, 9, 11])
    np.testing.assert_array_equal(found.lefts, [0, 3, 6, 9, 11])
    for row, column in itertools.product(range(5), range(5)):
        covered = picture.copy()
        covered[found.tops[row] : found.tops[row] + 5, found.lefts[column] : found.lefts[column] + 5] = 0
        logits = model(covered[None]).numpy()[0]
        np.testing.assert_allclose(found.scores[row, column], logits[2], atol=1e-5)
        assert found.classes[row, column] == logits.argmax()
    assert len(np.unique(found.classes)) > 1
    np.testing.assert_array_equal(found.map, run("occlusion", model, picture, 2, 5, 3, 0.0))
    both = run("occlusion", model, np.stack([picture] * 2), 2, 5, 3, 0.0, return_classes=True)
    assert both.classes.shape == both.scores.shape == (2, 5, 5) and both.map.shape == (2, 16, 16)


def test_occlusion_of_the_koala_finds_the_koala():
    model, picture = models.load(), images.batch(images.sample("koala+panda"))[0]
    where = images.masks("koala+panda")
    classes = {label: index for index, label, _ in models.decode(model(picture[None]).numpy()[0], top=1000)}
    for animal, label in (("koala", "koala"), ("panda", "giant panda")):
        target = next(index for name, index in classes.items() if label in name.lower())
        found = run("occlusion", model, picture, target, 56, 42)
        other = where["panda" if animal == "koala" else "koala"]
        assert found[where[animal]].mean() > 0 and found[where[animal]].mean() > 2 * found[other].mean()


# --- occlusion that computes only what changes


def awkward(size=(37, 42, 3)):
    """Both paddings, uneven ones, strides on odd sizes, dilation, kernels smaller than strides, a branch, a border."""
    picture = keras.Input(size)
    x = L.Rescaling(0.5, offset=1.0, name="rescaling")(picture)
    x = L.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="conv1")(x)
    x = L.Conv2D(6, 2, padding="same", dilation_rate=2, name="conv2")(x)
    y = L.DepthwiseConv2D(3, padding="same", activation="relu6", name="depthwise")(x)
    x = L.Add(name="join")([x, y])
    x = L.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    x = L.BatchNormalization(name="norm")(x)
    x = L.ZeroPadding2D(((1, 0), (0, 2)), name="pad")(x)
    x = L.Conv2D(8, 3, padding="valid", activation="relu", name="conv3")(x)
    x = L.AveragePooling2D(2, strides=1, padding="same", name="pool2")(x)
    x = L.Conv2D(8, 1, strides=2, padding="same", name="conv4")(x)
    return zoo._randomised(keras.Model(picture, L.Dense(4, name="dense")(L.Flatten()(x))))


def cut_names(model, pictures):
    task = shared.prepare(model, pictures, 0)
    return [cut.name for cut in incremental._cuts(task.model, pictures.shape[1:3])[0][1:]]


EVERY_KIND = ("conv1", "join", "pool1", "pool2", "conv4")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "patch", "stride", "layers"),
    [
        ((37, 42, 3), (5, 7), (3, 7), EVERY_KIND),
        ((40, 33, 3), (5, 7), (5, 7), ("join", "conv4")),
        ((37, 42, 3), (1, 2), (1, 2), ("conv4",)),
        ((37, 42, 3), (2, 20), (2, 9), ("conv4",)),
        ((37, 42, 3), (36, 3), (5, 3), ("conv4",)),
        ((40, 33, 3), (9, 9), (4, 4), ("conv4",)),
    ],
)
def test_resumed_occlusion_is_plain_occlusion(size, patch, stride, layers):
    model = awkward(size)
    pictures = np.random.default_rng(0).normal(0, 3, (2, *size)).astype("float32")
    plain = run("occlusion", model, pictures, 1, patch, stride, 2.0, resume=None)
    names = cut_names(model, pictures)
    assert {"conv1", "conv2", "join", "pool1", "conv3", "pool2", "conv4"} <= set(names)
    for layer in layers:
        found = run("occlusion", model, pictures, 1, patch, stride, 2.0, resume=layer)
        np.testing.assert_allclose(found, plain, atol=1e-4 * np.abs(plain).max(), err_msg=layer)


@pytest.mark.parametrize("name", [name for name in zoo.MODELS if name != "two_outputs"])
def test_resumed_occlusion_of_every_build(name):
    model, pictures = zoo.common(name), zoo.pictures(2)
    plain = run("occlusion", model, pictures, 1, 3, 2, resume=None, return_classes=True)
    names = cut_names(model, pictures)
    assert names
    found = run("occlusion", model, pictures, 1, 3, 2, resume=names[-1], return_classes=True, batch=7)
    np.testing.assert_allclose(found.scores, plain.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.classes, plain.classes)


@pytest.mark.parametrize("batch", [1, 16])
def test_resumed_occlusion_with_two_outputs_and_every_fill(batch):
    model, pictures = zoo.build("two_outputs"), zoo.pictures(1)
    for fill in ("mean", "noise", pictures[0, ::-1]):
        plain, found = (
            run("occlusion", model, pictures, lambda y: y["size"][:, 0], 4, 3, fill, resume=layer, batch=batch)
            for layer in (None, "trunk")
        )
        np.testing.assert_allclose(found, plain, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "patch"), [("efficientnet_lite0", 192, 16), ("vgg19", 128, 16)])
def test_resuming_pays_on_the_bundled_networks_and_changes_nothing(name, size, patch):
    model, picture = models.load(name, size=size), images.batch(images.sample("koala"), size=size)
    target = None if name == "efficientnet_lite0" else lambda maps: tf.reduce_mean(maps[..., 3], (1, 2))
    task = shared.prepare(model, picture, target)
    starts = masking.starts(size, patch, 3 * patch)
    plan = incremental.plan(task, starts, starts, (patch, patch))
    assert plan.gain > 2 and len(plan.stages) > 5
    function = incremental.passes(task, "resumed", plan)
    fills = masking.fills(task, "mean")
    maps = incremental.clean(task, plan)(picture[0])
    options = dict(batch=16, progress=False, label="")
    (found,) = masking.run(task, function, 0, fills, plan.rows, constants=maps, **options)
    windows = np.array([[size, size], *itertools.product(starts, starts)], "int32")
    plain = masking.passes(task, "plain", masking.window_masks((size, size), (patch, patch)))
    (wanted,) = masking.run(task, plain, 0, fills, windows, **options)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.ptp(wanted))
    assert np.ptp(wanted) > 0


def test_crops_that_are_too_small_are_noticed(monkeypatch):
    """The check before the first window: without margins a convolution sees padding that is not there."""
    own = incremental._crop

    def smaller(source, target, axis, *wanted):
        corners, size = own(source, target, axis, *wanted)
        step = target.axes[axis][0] // source.axes[axis][0]
        return np.minimum(corners + step, source.shape[axis] - size + 2 * step), size - 2 * step

    model, picture = awkward(), np.random.default_rng(0).normal(0, 3, (37, 42, 3)).astype("float32")
    monkeypatch.setattr(incremental, "_crop", smaller)
    with pytest.raises(ValueError, match="does not compute what it does on the whole picture"):
        run("occlusion", model, picture, 0, 5, 5, resume="conv3")


class Somewhere(L.Layer):
    """Adds a map of its own: the same operation at each place, and not the same thing."""

    def build(self, shape):
        self.place = self.add_weight(shape=shape[1:], initializer="random_normal")

    def call(self, x):
        return x + self.place


def test_where_it_would_not_be_exact_the_whole_network_is_run(monkeypatch):
    picture = keras.Input((16, 16, 3))
    x = Somewhere(name="somewhere")(L.Conv2D(4, 3, padding="same", name="conv1")(picture))
    x = L.Conv2D(4, 3, padding="same", activation="relu", name="conv2")(x)
    model = keras.Model(picture, L.Dense(3)(L.GlobalAveragePooling2D()(x)))
    pictures = zoo.pictures(1)
    monkeypatch.setattr(incremental, "SMALL", 0)
    plain, found = (run("occlusion", model, pictures, 0, 2, resume=resume) for resume in (None, "auto"))
    np.testing.assert_allclose(found, plain, atol=1e-6)
    with pytest.raises(ValueError, match="'conv2'.*does not compute"):
        run("occlusion", model, pictures, 0, 2, resume="conv2")


def test_auto_decides(monkeypatch):
    def decided(model, pictures, patch):
        task, starts = shared.prepare(model, pictures, 0), masking.starts(pictures.shape[1], patch, patch)
        return incremental.plan(task, starts, starts, (patch, patch))

    model, pictures = zoo.build("residual"), zoo.pictures(1)
    assert decided(model, pictures, 3) is None  # small: it would take longer to set up
    monkeypatch.setattr(incremental, "SMALL", 0)
    assert decided(zoo.build("residual"), pictures, 2).gain > incremental.GAIN
    assert decided(zoo.build("residual"), pictures, 14) is None  # nearly everything changes
    flat, _ = linear()
    assert decided(flat, pictures, 3) is None  # nothing to cut


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("branch", "cannot be resumed at 'branch'.*possible: 'stem'"),
        ("gmp", "cannot be resumed at 'gmp'"),
        ("conv", "no layer 'conv'"),
    ],
)
def test_layers_where_it_cannot_be_resumed(layer, message):
    with pytest.raises(ValueError, match=message):
        run("occlusion", zoo.build("residual"), zoo.pictures(1), 0, resume=layer)


# --- RISE


def test_rise_with_hard_cells_has_its_expectation_on_a_linear_network():
    model, weights = linear()
    picture, p = zoo.pictures(1)[0], 0.3
    found, error = run(
        "rise",
        model,
        picture,
        0,
        masks=4000,
        cells=4,
        p=p,
        shift=False,
        interpolate=False,
        return_error=True,
        batch=200,
    )
    product = (weights * picture).sum(-1)
    cell = np.array([product[GRID == index].sum() for index in range(16)])[GRID]
    deviation = (found - ((1 - p) * cell + p * product.sum() + 0.7)) / error
    for index in range(16):  # a cell is one value
        assert np.ptp(found[GRID == index]) == 0 and np.ptp(error[GRID == index]) == 0
    of_cells = deviation[::4, ::4]
    assert np.abs(of_cells).max() < 4 and 0.3 < of_cells.std() < 1.7  # 16 standard errors, so they are errors too


def test_rise_is_its_formula():
    """The masks are read off a network that puts out a pixel of what it is shown."""
    model, pictures = zoo.build("residual"), zoo.pictures(2)
    options = dict(masks=37, cells=(3, 5), p=0.4, seed=5)
    rng, masks = np.random.default_rng(5), []
    for _ in range(37):
        draws = rng.random(2 + 15, "float32")
        grid = (draws[2:] < 0.4).reshape(3, 5).astype("float32")
        sides = math.ceil(16 / 3), math.ceil(16 / 5)
        large = tf.image.resize(grid[..., None], (4 * sides[0], 6 * sides[1]))[..., 0].numpy()
        top, left = (int(draw * side) for draw, side in zip(draws, sides, strict=False))
        masks.append(large[top : top + 16, left : left + 16])
    masks = np.stack(masks)
    wanted, errors = [], []
    for picture in pictures:
        terms = model(picture * masks[..., None]).numpy()[:, 1, None, None] * masks / 0.4
        wanted.append(terms.mean(0))
        errors.append(terms.std(0, ddof=1) / np.sqrt(37))
    found, error = run("rise", model, pictures, 1, return_error=True, **options)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    np.testing.assert_allclose(error, errors, atol=1e-4)
    np.testing.assert_array_equal(found, run("rise", model, pictures, 1, **options))


def test_rise_with_everything_visible_is_the_score():
    model, picture = zoo.build("residual"), zoo.pictures(1)[0]
    np.testing.assert_allclose(run("rise", model, picture, 3, masks=3, p=1.0), model(picture[None])[0, 3], rtol=1e-5)


def test_memory_does_not_grow_with_the_number_of_masks():
    model, picture = zoo.build("residual"), zoo.pictures(1)[0]

    def peak(masks):
        run("rise", model, picture, 0, masks=masks)
        tracemalloc.start()
        try:
            run("rise", model, picture, 0, masks=masks)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(1024) < peak(32) + 150_000  # the masks alone would be a million bytes


# --- segments


def shapley(function, count):
    """Shapley values by definition: what a part adds to each set of others, weighted by the orders of joining."""
    values = np.zeros(count)
    for part in range(count):
        for others in itertools.product((0, 1), repeat=count - 1):
            without, joined = ((*others[:part], own, *others[part:]) for own in (0, 1))
            orders = math.factorial(sum(others)) * math.factorial(count - 1 - sum(others))
            values[part] += orders / math.factorial(count) * (function[joined] - function[without])
    return values


def test_kernel_shap_agrees_with_brute_force_on_8_segments():
    model, pictures = zoo.build("residual"), zoo.pictures(2)
    parts = np.arange(8).reshape(4, 2).repeat(4, 0).repeat(8, 1)
    fill = np.float32([0.5, -1, 0])
    shown = np.array(list(itertools.product((0, 1), repeat=8)))
    found, segments = run("kernel_shap", model, pictures, 1, segments=parts, fill=fill, return_segments=True)
    np.testing.assert_array_equal(segments[1], parts)
    for picture, own in zip(pictures, found, strict=True):
        kept = shown[:, parts][..., None]
        scores = model(np.where(kept, picture, fill), training=False).numpy()[:, 1].reshape([2] * 8)
        values = own[::4, ::8].ravel()
        np.testing.assert_allclose(values, shapley(scores, 8), atol=1e-4)
        np.testing.assert_allclose(values.sum(), scores.ravel()[-1] - scores.ravel()[0], atol=1e-5)
        np.testing.assert_array_equal(own, values[parts])


def test_sampled_kernel_shap_is_near_the_exact_one_and_still_adds_up():
    parts = np.arange(12).reshape(3, 4).repeat(4, 0).repeat(4, 1)
    model = models.load("mnist_cnn", size=28)
    parts = np.arange(12).reshape(3, 4).repeat(10, 0).repeat(7, 1)[:28]
    picture = np.random.default_rng(0).uniform(0, 255, (28, 28, 1)).astype("float32")
    exact = run("kernel_shap", model, picture, 3, segments=parts, samples=4096)
    drawn = run("kernel_shap", model, picture, 3, segments=parts, samples=1000)
    values = np.array([[own[parts == part][0] for part in range(12)] for own in (exact, drawn)])
    assert 0 < np.abs(values[0] - values[1]).max() < 0.1 * np.abs(values[0]).max()
    logits = model(np.stack([picture, np.full_like(picture, picture.mean())])).numpy()[:, 3]
    np.testing.assert_allclose(values.sum(1), logits[0] - logits[1], rtol=1e-4)


def test_each_drawn_variant_comes_with_its_complement():
    shown, weights = surrogates._shapley_variants(20, 500, 0)
    assert not shown[0].any() and shown[1].all() and weights.sum() == 498 and len(shown) == len(weights) + 2
    times = {tuple(row): weight for row, weight in zip(shown[2:], weights, strict=True)}
    assert len(times) == len(weights) and all(times[tuple(1 - np.array(row))] == times[row] for row in times)
    sizes = np.bincount(shown[2:].sum(1), weights, minlength=20)
    assert sizes[1] > 3 * sizes[10] and sizes[0] == 0  # few and many shown count most: 100 against 19


@pytest.mark.parametrize("count", [1, 2, 3])
def test_kernel_shap_of_few_segments(count):
    model, picture = zoo.build("residual"), zoo.pictures(1)[0]
    parts = np.minimum(np.arange(16) // 5, count - 1)[:, None].repeat(16, 1)
    found = run("kernel_shap", model, picture, 0, segments=parts, fill=0)
    wanted = np.diff(model(np.stack([0 * picture, picture])).numpy()[:, 0])
    np.testing.assert_allclose(sum(found[parts == part][0] for part in range(count)), wanted[0], atol=1e-5)


@pytest.mark.parametrize("segments", ["slic", "felzenszwalb", GRID + 7])
def test_lime_recovers_what_segments_contribute_to_a_linear_network(segments):
    model, weights = linear()
    rng = np.random.default_rng(3)
    pictures = (rng.uniform(1, 2, (2, 4, 4, 3)).repeat(4, 1).repeat(4, 2) + rng.normal(0, 0.01, (2, 16, 16, 3))) * 50
    pictures = pictures.astype("float32")
    found, parts = run(
        "lime", model, pictures, 0, segments=segments, count=8, samples=400, fill=0, return_segments=True
    )
    product = (weights * pictures).sum(-1)
    for own, part, values in zip(found, parts, product, strict=True):
        assert part.max() >= 3 and part.min() == 0
        wanted = np.array([values[part == number].sum() for number in range(part.max() + 1)])
        np.testing.assert_allclose(own, wanted[part], atol=0.02 * np.abs(wanted).max())
        exact = run("lime", model, pictures[0], 0, segments=parts[0], samples=400, fill=0, alpha=1e-6)
    wanted = np.array([product[0][parts[0] == number].sum() for number in range(parts[0].max() + 1)])
    np.testing.assert_allclose(exact, wanted[parts[0]], rtol=1e-3, atol=1e-2)


def test_lime_looks_near_the_picture():
    """Two segments of which one alone does nothing: near the picture each matters, on average only half as much."""
    picture = np.ones((16, 16, 3), "float32")
    parts = np.repeat([0, 1], 8)[:, None].repeat(16, 1)
    model = of_parts(picture, parts, lambda shown: shown[:, 0] * shown[:, 1])
    near = run("lime", model, picture, 0, segments=parts, samples=2000, fill=0, kernel_width=0.1)
    far = run("lime", model, picture, 0, segments=parts, samples=2000, fill=0, kernel_width=1e6)
    assert near.min() > 0.9 and 0.4 < far.min() < far.max() < 0.6
    # Shapley values share the interaction.
    np.testing.assert_allclose(run("kernel_shap", model, picture, 0, segments=parts, fill=0), 0.5, atol=1e-5)


# --- Sobol


def test_sobol_indices_of_an_additive_function():
    amounts = np.array([[3.0, 0.0], [1.0, -2.0]])
    picture = np.ones((16, 16, 3), "float32")
    parts = np.arange(4).reshape(2, 2).repeat(8, 0).repeat(8, 1)
    model = of_parts(picture, parts, lambda shown: tf.linalg.matvec(shown, np.float32(amounts.ravel())))
    found = run("sobol", model, picture, 0, cells=2, designs=1024, fill=0, upsample=False)
    np.testing.assert_allclose(found, amounts**2 / (amounts**2).sum(), atol=0.02)
    assert run("sobol", model, picture, 0, cells=2, designs=32, fill=0).shape == (16, 16)


def test_sobol_counts_an_interaction_for_both_cells():
    """f = z₀ · z₁ of uniform z: the variance is 7/144; held all others, z₀ leaves E[z₁²] / 12 = 1/36."""
    picture = np.ones((16, 16, 3), "float32")
    parts = np.arange(4).reshape(2, 2).repeat(8, 0).repeat(8, 1)
    model = of_parts(picture, parts, lambda shown: shown[:, 0] * shown[:, 3])
    found = run("sobol", model, picture, 0, cells=2, designs=1024, fill=0, upsample=False)
    np.testing.assert_allclose(found, [[4 / 7, 0], [0, 4 / 7]], atol=0.03)


# --- meaningful perturbation


def test_meaningful_perturbation_removes_what_is_looked_at_and_nothing_else():
    picture = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3)).astype("float32")
    model = network(lambda x: tf.reduce_mean(tf.abs(x[:, 4:10, 5:11] - 127), (1, 2, 3)))
    found = run("meaningful_perturbation", model, picture, 0, fill=127, jitter=0, steps=150, area=0.05, smoothness=0.01)
    looked_at = np.zeros((16, 16), bool)
    looked_at[4:10, 5:11] = True
    assert found.min() >= 0 and found.max() <= 1
    assert found[0][looked_at].mean() > 0.9 and found[0][~looked_at].mean() < 0.05
    assert (run("meaningful_perturbation", model, picture, 0, fill=127, area=20.0, steps=60, jitter=0) < 0.2).all()


def test_meaningful_perturbation_says_that_there_is_nothing_to_remove():
    model, (picture, _) = network(lambda x: -tf.reduce_mean(tf.abs(x), (1, 2, 3))), zoo.pictures(2)
    with pytest.warns(UserWarning, match="nothing to remove from pictures \\[0\\]"):
        found = run("meaningful_perturbation", model, picture, 0, fill=0, steps=3)
    assert not found.any()


# --- what all of them must do


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [name for name in zoo.MODELS if name != "two_outputs"])
def test_every_method_works_on_every_build_and_changes_nothing(method, name):
    model, pictures = zoo.common(name), zoo.pictures(3)
    before = [np.copy(weight) for weight in model.get_weights()]
    options = METHODS[method][1]
    found = run(method, model, pictures, **options)
    assert found.shape == (3, 16, 16) and found.dtype == "float32" and np.isfinite(found).all()
    np.testing.assert_array_equal(found, run(method, model, pictures, **options))
    own = np.argmax(model(pictures, training=False), -1)
    np.testing.assert_allclose(found, run(method, model, pictures, list(own), **options), atol=1e-6)
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.filterwarnings("ignore:There is nothing to remove")
@pytest.mark.parametrize("method", METHODS)
class TestEvery:
    def test_a_batch_of_1_and_of_33_give_the_same_rows(self, method):
        model, pictures = zoo.common("functional"), zoo.pictures(33)
        options = METHODS[method][1]
        together = run(method, model, pictures, 1, **options)
        for index in (0, 17, 32):
            alone = run(method, model, pictures[index], 1, **options)
            np.testing.assert_allclose(together[index], alone, atol=2e-5 * max(np.abs(alone).max(), 1))

    def test_the_size_of_a_pass_does_not_matter(self, method):
        model, picture = zoo.common("functional"), zoo.pictures(1)
        options = METHODS[method][1]
        one, two = (run(method, model, picture, 1, batch=batch, **options) for batch in (5, 64))
        np.testing.assert_allclose(one, two, atol=2e-5 * max(np.abs(one).max(), 1))

    def test_two_outputs_with_a_function_as_target(self, method):
        found = run(method, zoo.common("two_outputs"), zoo.pictures(2), lambda y: y["kind"][:, 1], **METHODS[method][1])
        assert found.shape == (2, 16, 16) and np.isfinite(found).all()
        with pytest.raises(ValueError, match="which one is meant"):
            run(method, zoo.common("two_outputs"), zoo.pictures(2), 0, **METHODS[method][1])

    def test_digits(self, method):
        model, picture = models.load("mnist_cnn"), np.zeros((28, 28, 1), "float32")
        picture[4:24, 12:16] = 255
        found = run(method, model, picture, **METHODS[method][1])
        assert found.shape == (28, 28) and np.abs(found).max() > 0

    @pytest.mark.parametrize("fill", [0, "mean", "blur", "noise"])
    def test_a_constant_picture_gives_finite_numbers(self, method, fill):
        found = run(method, zoo.common("residual"), np.full((16, 16, 3), 7.0), 1, fill=fill, **METHODS[method][1])
        assert np.isfinite(found).all()
        if fill != 0 and method not in ("rise",):
            assert np.abs(found).max() < 1e-3

    def test_a_score_that_is_always_zero_gives_zeros(self, method):
        model = zoo.build("residual")
        model.get_layer("dense").set_weights([0 * w for w in model.get_layer("dense").get_weights()])
        assert not run(method, model, zoo.pictures(1), 1, **METHODS[method][1]).any()

    def test_logits_and_softmax_are_different_questions(self, method):
        model, picture = zoo.common("functional"), zoo.pictures(1)
        options = {"fill": 0.0, **METHODS[method][1]}
        own = int(np.argmax(model(picture)))
        plain, logit = (run(method, network, picture, own, **options) for network in (model, submodels.logits(model)))
        assert np.abs(plain - logit).max() > 1e-5
        as_function = run(method, submodels.logits(model), picture, lambda y: tf.nn.softmax(y)[:, own], **options)
        np.testing.assert_allclose(plain, as_function, atol=1e-5 if method != "meaningful_perturbation" else 0.05)

    @pytest.mark.parametrize(
        ("pictures", "target", "message"),
        [
            (np.zeros((16, 16)), 0, "give \\(B, H, W, C\\)"),
            (np.zeros((8, 8, 3)), 0, "16 × 16 × 3"),
            (np.full((16, 16, 3), np.nan), 0, "NaN"),
            (np.zeros((0, 16, 16, 3)), 0, "empty"),
            (np.zeros((16, 16, 3)), 5, "0 to 4"),
        ],
    )
    def test_bad_pictures_and_targets(self, method, pictures, target, message):
        with pytest.raises(ValueError, match=message):
            run(method, zoo.common("residual"), pictures, target)

    @pytest.mark.parametrize(
        ("fill", "message"),
        [
            ("grey", "no fill 'grey'.*'mean'"),
            (np.zeros((8, 8, 3)), "fill has shape \\(8, 8, 3\\)"),
            ((0, 0), "a colour \\(3,\\)"),
            (np.nan, "NaN"),
        ],
    )
    def test_bad_fills(self, method, fill, message):
        with pytest.raises(ValueError, match=message):
            run(method, zoo.common("residual"), zoo.pictures(1), 0, fill=fill)

    def test_an_empty_pass(self, method):
        with pytest.raises(ValueError, match="batch"):
            run(method, zoo.common("residual"), zoo.pictures(1), 0, batch=0)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("occlusion", {"patch": 17}, "patch=17 is larger than the picture, 16 × 16"),
        ("occlusion", {"patch": (4, 17)}, "larger than the picture"),
        ("occlusion", {"patch": 0}, "patch=0.*at least 1"),
        ("occlusion", {"patch": 2.5}, "patch=2.5.*whole"),
        ("occlusion", {"patch": (1, 2, 3)}, "two: \\(height, width\\)"),
        ("occlusion", {"patch": 4, "stride": 0}, "stride=0.*at least 1"),
        ("occlusion", {"patch": 4, "stride": -1}, "stride=-1"),
        ("occlusion", {"patch": 4, "stride": 5}, "larger than patch.*left out"),
        ("rise", {"masks": 0}, "masks=0.*at least 1"),
        ("rise", {"masks": True}, "masks=True"),
        ("rise", {"masks": 1, "return_error": True}, "at least 2"),
        ("rise", {"cells": 17}, "cells=17 is larger"),
        ("rise", {"p": 0}, "p=0"),
        ("rise", {"p": 1.5}, "p=1.5"),
        ("lime", {"samples": 0}, "samples=0"),
        ("lime", {"count": 0}, "count=0"),
        ("lime", {"segments": "quickshift"}, "no segmentation 'quickshift'"),
        ("lime", {"segments": np.zeros((8, 8), int)}, "segments has shape \\(8, 8\\)"),
        ("lime", {"segments": np.zeros((16, 16))}, "type float64"),
        ("lime", {"kernel_width": 0}, "kernel_width=0"),
        ("lime", {"alpha": -1}, "alpha=-1"),
        ("kernel_shap", {"samples": 0}, "samples=0"),
        ("kernel_shap", {"samples": 31, "segments": GRID}, "too few for 16 segments: give at least 32"),
        ("sobol", {"designs": 0}, "designs=0"),
        ("sobol", {"designs": 1}, "power of 2"),
        ("sobol", {"designs": 12}, "power of 2"),
        ("sobol", {"cells": 0}, "cells=0"),
        ("meaningful_perturbation", {"steps": 0}, "steps=0"),
        ("meaningful_perturbation", {"cells": 20}, "cells=20 is larger"),
        ("meaningful_perturbation", {"learning_rate": 0}, "learning_rate=0"),
        ("meaningful_perturbation", {"area": -1}, "area=-1"),
        ("meaningful_perturbation", {"jitter": -1}, "jitter=-1"),
    ],
)
def test_bad_options_are_refused_in_words(method, options, message):
    with pytest.raises(ValueError, match=message):
        run(method, zoo.build("residual"), zoo.pictures(1), 0, **options)


def test_classes_of_a_network_without_classes():
    with pytest.raises(ValueError, match="return_classes"):
        run("occlusion", zoo.build("two_outputs"), zoo.pictures(1), lambda y: y["size"][:, 0], return_classes=True)


def test_other_windows_add_nothing_to_the_model():
    model, picture = zoo.build("residual"), zoo.pictures(1)
    for p in (0.3, 0.6):
        run("rise", model, picture, 0, masks=3, p=p)
    counts = []
    for stride in (2, 4, 1):
        options = {"patch": 4, "stride": stride}
        found = run("occlusion", model, picture, 0, resume="join", **options)
        np.testing.assert_allclose(found, run("occlusion", model, picture, 0, resume=None, **options), atol=1e-4)
        counts.append(len(model.__dict__["_helpers_cache"].built))
    assert counts[0] == counts[-1]


@pytest.mark.filterwarnings("ignore:There is nothing to remove")
def test_nothing_is_compiled_twice():
    model, picture = zoo.build("residual"), zoo.pictures(1)
    for method, (_, options) in METHODS.items():
        run(method, model, picture, 0, **options)
    functions = {
        key: value["function"]
        for key, value in model.__dict__["_helpers_cache"].built.items()
        if key[0] == "attribution"
    }
    before = {key: function.experimental_get_tracing_count() for key, function in functions.items()}
    for method, (_, options) in METHODS.items():
        run(method, model, picture + 1, 1, **options)
    assert {key: function.experimental_get_tracing_count() for key, function in functions.items()} == before
    assert engine.cached(model, next(iter(functions)), dict)["function"] is next(iter(functions.values()))


def test_a_model_whose_one_input_comes_in_a_list():
    model = zoo.build("functional")
    listed = keras.Model(model.inputs, model.output)
    pair = [perturbation.occlusion(one, zoo.pictures(1), 1, 4, 4, progress=False) for one in (model, listed)]
    np.testing.assert_allclose(*pair, atol=1e-6)

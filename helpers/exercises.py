"""Exercises that the notebooks check themselves: `check("00.1", "koala")`.

No answer is stored here. Each exercise computes its own from the networks and photographs, when it is first asked.
"""

import difflib
import numbers
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import keras
import numpy as np
import tensorflow as tf
from scipy.ndimage import gaussian_filter

from . import cam, deconv, digits, engine, gradients, images, models, perturbation, relevance, submodels, units


@dataclass(frozen=True)
class Exercise:
    """One question of a notebook.

    hints: what to say after the first, second, … wrong answer; the last one stays.
    accept: answer → whether it is right. A `TypeError` tells what kind of answer is expected.
    because: what to say after the right answer.
    """

    hints: tuple[str, ...]
    accept: Callable[[object], bool]
    because: str = ""


_wrong_answers = Counter()


def check(id, answer=None):
    """Print whether `answer` to the exercise `id` is right, and a hint if it is not.

    Without an answer (None or `...`) it says so. A wrong answer never raises: the first gets the first hint, the
    next one the next. Raises `ValueError` for an unknown `id`.
    """
    if id not in EXERCISES:
        near = difflib.get_close_matches(str(id), EXERCISES, cutoff=0.3) or list(EXERCISES)
        raise ValueError(f"There is no exercise {id!r}; the nearest are {', '.join(near)}.")
    exercise = EXERCISES[id]
    if answer is None or answer is ...:
        print(f"{id}: not answered yet.")
        return
    try:
        right = exercise.accept(answer)
    except TypeError as error:
        print(f"{id}: Not yet. {error}")
        return
    if right:
        del _wrong_answers[id]
        print(f"{id}: Right. {exercise.because}".rstrip())
    else:
        hint = exercise.hints[min(_wrong_answers[id], len(exercise.hints) - 1)]
        _wrong_answers[id] += 1
        print(f"{id}: Not yet. Hint: {hint}")


def number(compute, relative=0.01, absolute=1e-9):
    """Accepts the number that `compute()` gives, to a relative or an absolute tolerance."""

    def accept(answer):
        if isinstance(answer, np.ndarray | np.generic) and answer.size == 1:
            answer = answer.item()
        if isinstance(answer, bool) or not isinstance(answer, numbers.Real):
            raise TypeError(f"The answer is a number, such as 0.5; this is {_kind(answer)}.")
        return bool(np.isclose(answer, compute(), rtol=relative, atol=absolute))

    return accept


def word(compute):
    """Accepts the text that `compute()` gives; capitals, spaces and underscores do not matter."""

    def accept(answer):
        if not isinstance(answer, str):
            raise TypeError(f"The answer is a text in quotes, such as 'panda'; this is {_kind(answer)}.")
        return _plain(answer) == _plain(compute())

    return accept


def words(compute):
    """Accepts the texts that `compute()` gives, all of them, in any order."""

    def accept(answer):
        if isinstance(answer, str) or not all(isinstance(item, str) for item in _items(answer)):
            raise TypeError(f"The answer is a list of texts, such as ['cat', 'panda']; this is {_kind(answer)}.")
        return sorted(map(_plain, answer)) == sorted(map(_plain, compute()))

    return accept


def numbers_in_order(compute, absolute=1e-8):
    """Accepts the list of numbers that `compute()` gives, in its order, to an absolute tolerance."""

    def accept(answer):
        try:
            given = np.asarray(answer, float).ravel()
        except (TypeError, ValueError):
            raise TypeError(f"The answer is a list of numbers, such as [1, 0, 2]; this is {_kind(answer)}.") from None
        wanted = np.asarray(compute(), float).ravel()
        return given.shape == wanted.shape and bool(np.allclose(given, wanted, atol=absolute))

    return accept


def _items(answer):
    return answer if isinstance(answer, list | tuple | set | np.ndarray) else [answer, ...]


def _plain(text):
    return " ".join(text.casefold().replace("_", " ").split())


def _kind(answer):
    if isinstance(answer, np.ndarray):
        return f"an array of shape {answer.shape}"
    name = type(answer).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


@cache
def _network():
    return models.load("efficientnet_lite0")


@cache
def _top_answers(photograph):
    """The five answers of EfficientNet-Lite0 for a bundled photograph: `(class index, label, probability)` each."""
    logits = _network()(images.batch(images.sample(photograph)), training=False)
    return models.decode(logits)[0]


def _photographs():
    """The 28 bundled photographs, their names, and the pictures."""
    names = images.samples()
    return names, images.batch(*map(images.sample, names))


def _numbers_out_for_each_number_in():
    vgg = models.load("vgg19")
    return np.prod(vgg.get_layer("block1_conv1").output.shape[1:]) / np.prod(vgg.input_shape[1:])


def _most_excited_by(layer, channel):
    names, pictures = _photographs()
    return names[units.top_patches(_network(), layer, channel, pictures, count=1).images[0]]


def _least_sparse_convolution():
    vgg, (_, pictures) = models.load("vgg19"), _photographs()
    profile = units.activity(vgg, pictures, submodels.layer_names(vgg, "conv"))
    return min(profile, key=lambda name: profile[name].sparsity)


def _unpooled():
    pool = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.MaxPooling2D(2, name="pool")])
    window = np.array([0, 3, 1, 2], "float32").reshape(1, 2, 2, 1)
    return engine.run(submodels.deconvnet(pool, "pool"), window, pool(window).numpy())


def _through_relu(rule):
    relu = keras.Sequential([keras.Input((1, 3, 1)), keras.layers.ReLU(name="relu")])
    forward, signal = (np.array(v, "float32").reshape(1, 1, 3, 1) for v in ([-5, 3, 1], [2, -1, 4]))
    return engine.run(submodels.deconvnet(relu, "relu", rule), forward, signal)


def _likeness_of_two_channels(photograph, layer, rule):
    """The correlation of the projections of the two strongest channels, at the place of the strongest activation."""
    vgg, picture = models.load("vgg19"), images.batch(images.sample(photograph))[0]
    maps = engine.run(submodels.activations(vgg, layer), picture[None])[layer][0]
    row, column, _ = np.unravel_index(maps.argmax(), maps.shape)
    channels = np.argsort(-maps[row, column])[:2]
    pair = [deconv.project(vgg, picture, layer, int(k), (row, column), rule) for k in channels]
    return np.corrcoef(*[pixels.ravel() for pixels in pair])[0, 1]


def _is_zoom(frames):
    """Whether each frame is the enlarged middle of the one before, and the last excites VGG19 more than a panda."""
    try:
        film = np.stack([np.asarray(frame, "float32") for frame in frames])
    except (TypeError, ValueError):
        raise TypeError("The answer is a list of pictures of one size, (128, 128, 3).") from None
    if film.shape[1:] != (128, 128, 3) or len(film) < 6:
        raise TypeError(f"The answer is a list of at least six pictures (128, 128, 3); this is {film.shape}.")

    def distance(one, two):
        return np.abs(one - two).mean()

    for before, after in zip(film[:-1], film[1:], strict=True):
        if not distance(images.resize(before[6:122, 6:122], 128), after) < 0.9 * distance(before, after):
            return False
    panda = images.batch(images.sample("panda"), size=128)
    probe = submodels.activations(models.load("vgg19", size=128), "block4_conv2")
    scores = (engine.run(probe, np.stack([panda[0], film[-1]]))["block4_conv2"] ** 2).mean((1, 2, 3))
    return bool(scores[1] > 2 * scores[0])


def _no_cat_under_a_square(photograph, patch, stride):
    """The label that is the first answer most often while a square slides over a photograph, and that is no cat."""
    picture = images.batch(images.sample(photograph))[0]
    slid = perturbation.occlusion(_network(), picture, None, patch, stride, return_classes=True, progress=False)
    counts = np.bincount(slid.classes.ravel(), minlength=1000)
    counts[281:286] = 0  # the cats of ImageNet that live in houses
    return models.decode(np.float32(counts)[None])[0][0][1]


def _one_of_two_is_enough():
    """Occlusion and Shapley values of two pixels, for a network that is content with either of them."""
    enough = keras.Sequential([keras.Input((1, 2, 1)), keras.layers.GlobalMaxPooling2D()])
    picture, options = np.ones((1, 2, 1), "float32"), {"target": 0, "fill": 0, "progress": False}
    covered = perturbation.occlusion(enough, picture, patch=1, stride=1, **options)
    fair = perturbation.kernel_shap(enough, picture, segments=np.array([[0, 1]]), samples=4, **options)
    return np.concatenate([covered.ravel(), fair.ravel()])


def _maps_of_a_constant():
    """The means of the occlusion map and of the RISE map of a score that is always 0.8."""
    picture = images.batch(images.sample("koala"))[0]
    options = {"target": lambda logits: 0 * logits[:, 0] + 0.8, "progress": False}
    covered = perturbation.occlusion(_network(), picture, patch=112, **options)
    return [covered.mean(), perturbation.rise(_network(), picture, masks=64, **options).mean()]


def _hides(photograph, largest):
    """Accepts a mask of at most that share of the pixels which changes the first answer when they show the blur."""

    def accept(answer):
        picture, mask = images.batch(images.sample(photograph))[0], np.asarray(answer)
        if mask.shape != picture.shape[:2] or mask.dtype != bool:
            raise TypeError(f"The answer is a mask of booleans, {picture.shape[:2]}; this is {_kind(answer)}.")
        if mask.mean() > largest + 0.001:
            raise TypeError(f"The mask may cover {largest:.0%} of the pixels; this one covers {mask.mean():.1%}.")
        changed = np.where(mask[..., None], gaussian_filter(picture, (10, 10, 0), mode="nearest"), picture)
        answers = models.decode(_network()(changed[None], training=False))
        return answers[0][0][0] != _top_answers(photograph)[0][0]

    return accept


@cache
def _koala_and_panda():
    return images.batch(images.sample("koala+panda"))[0], images.masks("koala+panda")


def _on_the_panda(target):
    """The share of the Grad-CAM map of a score that falls on the panda, below the koala."""
    scene, masks = _koala_and_panda()
    found = cam.grad_cam(_network(), scene, target)
    return found[masks["panda"]].sum() / found.sum()


def _hides_from_grad_cam(weights):
    """Whether a linear head with these weights of the red pixels scores above zero, and Grad-CAM shows nothing."""
    try:
        given = np.asarray(weights, "float32")
    except (TypeError, ValueError):
        given = np.zeros(0)
    if given.shape != (4, 4):
        raise TypeError(f"The answer is an array of weights, (4, 4); this is {_kind(weights)}.")
    red = np.zeros((4, 4, 1), "float32")
    red[:2, :2], red[2:, 2:] = 1, 2
    layers = [keras.layers.Activation("linear", name="red"), keras.layers.Flatten(), keras.layers.Dense(1)]
    tiny = keras.Sequential([keras.Input((4, 4, 1)), *layers])
    tiny.layers[-1].set_weights([given.reshape(16, 1), np.zeros(1)])
    return float(tiny(red[None])[0, 0]) > 0 and cam.grad_cam(tiny, red, 0, layer="red", upsample=False).max() == 0


def _sum_of_hires_cam(layer):
    """The sum of the signed map for the koala, as a share of its logit without the bias."""
    koala, label = images.batch(images.sample("koala"))[0], _top_answers("koala")[0][0]
    network = _network()
    logit = network(koala[None]).numpy()[0, label] - network.get_layer("logits").bias.numpy()[label]
    return cam.hires_cam(network, koala, label, layer=layer, upsample=False).sum() / logit


def _saturated():
    """Gradient, gradient × input and integrated gradients of 1 − max(0, 1 − x) at 2, from the baseline 0."""
    pixel = keras.Input((1, 1, 1))
    score = 1 - keras.ops.relu(1 - keras.ops.reshape(pixel, (-1, 1)))
    ramp, two = keras.Model(pixel, score), np.full((1, 1, 1), 2, "float32")
    found = [gradients.saliency(ramp, two), gradients.gradient_x_input(ramp, two)]
    return [one.item() for one in found + [gradients.integrated_gradients(ramp, two, progress=False)]]


def _koala_instead_of_panda():
    scores = _network()(images.batch(images.sample("koala"), images.sample("panda")), training=False)[:, 105].numpy()
    return float(scores[0] - scores[1])


def _mass_on_dark_pixels(photograph, baselines, dark):
    picture = images.batch(images.sample(photograph))[0]
    options = {"baseline": baselines, "tolerance": 0.03, "progress": False}
    mass = np.abs(gradients.integrated_gradients(_network(), picture, **options)).sum(-1)
    return mass[picture.max(-1) < dark].sum() / mass.sum()


def _contrast_in_the_half_of(first, pair, classes):
    picture = images.batch(images.sample(pair))[0]
    found = gradients.integrated_gradients(
        _network(),
        picture,
        lambda outputs: outputs[:, classes[0]] - outputs[:, classes[1]],
        tolerance=0.03,
        progress=False,
    )
    return found[images.masks(pair)[first]].sum()


def _shares_of_two_inputs():
    """The network of section 1 of notebook 06 at (1, 3): by LRP-0, then by z⁺."""
    dense = [keras.layers.Dense(2, "relu", use_bias=False), keras.layers.Dense(1, use_bias=False)]
    tiny = keras.Sequential([keras.Input((1, 1, 2)), keras.layers.Flatten(), *dense])
    tiny.set_weights([np.array([[1.0, 2.0], [1.0, -1.0]]), np.array([[2.0], [-1.0]])])
    pixels, rules = np.array([[[1.0, 3.0]]]), ({"rule": "epsilon", "epsilon": 0}, {"rule": "zplus"})
    return np.concatenate([relevance.lrp(tiny, pixels, 0, **rule).ravel() for rule in rules])


def _credit_for_the_smaller():
    """DeepLIFT of x₁ − ReLU(x₁ − x₂) at (3, 1), against zeros."""
    picture = keras.Input((1, 1, 2))
    values = keras.layers.Flatten()(picture)
    first, difference = keras.layers.Dense(1, use_bias=False), keras.layers.Dense(1, "relu", use_bias=False)
    model = keras.Model(picture, keras.layers.Subtract()([first(values), difference(values)]))
    first.set_weights([np.array([[1.0], [0.0]])])
    difference.set_weights([np.array([[1.0], [-1.0]])])
    return relevance.deep_lift(model, np.array([[[3.0, 1.0]]]), 0).ravel()


def _painted_pixels(number, digit, other):
    """How many pixels of paper must be painted, those first that speak most for `digit` rather than `other`."""
    reader, picture = models.load("mnist_cnn"), digits.load()[1][0][number]
    speaks = relevance.lrp(reader, picture, lambda logits: logits[:, digit] - logits[:, other], first="box")
    order = np.argsort(-np.where(picture < 20, speaks, -np.inf).ravel())
    films = np.repeat(picture.reshape(1, -1), 100, 0)
    for count in range(1, len(films)):
        films[count:, order[count - 1]] = 255
    return int((engine.run(reader, films.reshape(-1, 28, 28, 1)).argmax(1) != digit).argmax())


def _least_relevance_left_at(layer):
    names, pictures = _photographs()
    _, inside = relevance.lrp(_network(), pictures, layers=[layer], batch=4)
    return names[(inside[layer].sum((1, 2, 3)) / engine.run(_network(), pictures).max(1)).argmin()]


# The number of the notebook, a point, the number of the exercise in it.
EXERCISES = {
    "00.1": Exercise(
        hints=(
            "The network answers with 1000 numbers. models.decode turns them into labels, the most probable first.",
            'Let it look: models.decode(network(images.batch(images.sample("koala"))))[0][0] is the first answer.',
        ),
        accept=word(lambda: _top_answers("koala")[0][1]),
        because="Nobody told the network which photograph it was looking at.",
    ),
    "00.2": Exercise(
        hints=(
            "Which of the five answers has which probability? The third entry of each answer is its probability.",
            "Subtract the probability of the second answer from that of the first.",
        ),
        accept=number(lambda: _top_answers("narwhal")[0][2] - _top_answers("narwhal")[1][2], absolute=0.005),
        because="It has no word for a narwhal, and still prefers one answer by far: confidence is not knowledge.",
    ),
    "01.1": Exercise(
        hints=(
            "Numbers out: height × width × channels of the layer's output. Padding keeps height and width.",
            "224 · 224 · 64 numbers come out and 224 · 224 · 3 go in.",
        ),
        accept=number(_numbers_out_for_each_number_in),
        because="The first layers describe the picture at far greater length than the picture itself.",
    ),
    "01.2": Exercise(
        hints=(
            "Section 4 computes receptive fields: units.receptive_field(model, name).",
            'Its field size holds height and width: units.receptive_field(network, "block3b_depthwise").size.',
        ),
        accept=number(lambda: units.receptive_field(_network(), "block3b_depthwise").size[1], relative=0),
        because="One kernel of 5 pixels at a step of 8 adds 4 × 8 = 32 pixels to the 35 before.",
    ),
    "01.3": Exercise(
        hints=(
            "Section 5 finds strongest patches; here the pictures are the whole photographs in `collection`.",
            'units.top_patches(network, "head", 515, collection, count=1).images[0] is the number of the photograph.',
        ),
        accept=word(lambda: _most_excited_by("head", 515)),
        because="The windows in section 5 showed the same skin.",
    ),
    "01.4": Exercise(
        hints=(
            'profiles["VGG19"][name].sparsity is the share of zeros of one layer, section 3.',
            "Take the smallest: min(vgg_layers, key=…).",
        ),
        accept=word(_least_sparse_convolution),
        because="It is in block 3: after it the share of zeros rises almost steadily.",
    ),
    "02.1": Exercise(
        hints=(
            "The switch of this window points at the place of its largest value.",
            "The pooled value goes back to that place; the other three get nothing.",
        ),
        accept=numbers_in_order(_unpooled),
        because="The switch remembered the place.",
    ),
    "02.2": Exercise(
        hints=(
            "Deconv looks at the sign of the signal, the gradient at that of the forward value, guided at both.",
            "Deconv: max(0, signal). Gradient: the signal where the forward value is above zero, else 0. Then guided.",
        ),
        accept=numbers_in_order(lambda: [_through_relu(rule) for rule in ("deconv", "gradient", "guided")]),
        because="Deconv and gradient disagree at the first two places; guided passes only what both pass.",
    ),
    "02.3": Exercise(
        hints=(
            "Section 1 does it for the koala, in the cell that prints the correlation of two channels' projections.",
            'Take the jaguar, its own strongest place and channels, and rule="guided" for both projections.',
        ),
        accept=number(lambda: _likeness_of_two_channels("jaguar", "block5_conv1", "guided"), absolute=0.02),
        because="Two features, one picture: it is painted by the photograph.",
    ),
    "02.4": Exercise(
        hints=(
            "Each frame must start from the middle of the one before: picture[6:122, 6:122], enlarged to 128 again.",
            "And it must be dreamt far enough: a few steps of block4_conv2 for each frame.",
        ),
        accept=_is_zoom,
        because="The smaller the step of the zoom, the smoother the film.",
    ),
    "03.1": Exercise(
        hints=(
            "Section 1 draws the first answer at each position: return_classes=True, and then .classes.",
            "Count with np.unique(classes, return_counts=True), decode the numbers, and leave out the cats.",
        ),
        accept=word(lambda: _no_cat_under_a_square("cat", 64, 16)),
        because="A small dog, although there is none in the picture: what is left must fit some answer.",
    ),
    "03.2": Exercise(
        hints=(
            "Cover the first part: the second is still there. What is the score then?",
            "For Shapley write down both orders. Who enters first earns all; take the mean for each part.",
        ),
        accept=numbers_in_order(_one_of_two_is_enough, absolute=1e-4),
        because="Each part can replace the other: occlusion pays neither of them, Shapley pays both.",
    ),
    "03.3": Exercise(
        hints=(
            "Occlusion looks at differences of scores. Does RISE?",
            "RISE estimates the mean score when a pixel is visible: put f = 0.8 into the formula of section 3.",
        ),
        accept=numbers_in_order(_maps_of_a_constant, absolute=0.1),
        because="A RISE map is high where nothing matters, too: read its differences, not its height.",
    ),
    "03.4": Exercise(
        hints=(
            "A compact part will not do. Which mask of section 7 was small, and still took the koala away?",
            "Keep the strongest 5 % of that mask: np.quantile gives the value above which they are.",
        ),
        accept=_hides("koala", 0.05),
        because="Move the same mask by 4 pixels, and the koala is back.",
    ),
    "05.1": Exercise(
        hints=(
            "Section 3 has own_share and the masks; the target is a function that gives minus the logit of class 105.",
            "target=lambda z: -z[:, 105], and mask['panda'] for the half.",
        ),
        accept=number(lambda: _on_the_panda(lambda z: -z[:, 105]), absolute=0.01),
        because="The panda speaks against the koala; against the panda, at this layer, no place speaks at all.",
    ),
    "05.2": Exercise(
        hints=(
            "Grad-CAM weighs the channel by the mean of all sixteen weights, also of those where nothing is red.",
            "Positive where the picture is red, and so negative elsewhere that the mean is not above zero.",
        ),
        accept=_hides_from_grad_cam,
        because="A mean below zero turns the whole map off, although the score is made of red alone.",
    ),
    "05.3": Exercise(
        hints=(
            "Only the target changes against section 3; the share is that of mask['panda'].",
            "A function of the logits, tf.nn.softmax(z)[:, 388], as the target of cam.grad_cam.",
        ),
        accept=number(lambda: _on_the_panda(lambda z: tf.nn.softmax(z)[:, 388]), absolute=0.01),
        because="A probability also rises when other logits fall, so their maps are taken off, as in Finer-CAM.",
    ),
    "05.4": Exercise(
        hints=(
            "Section 5 compares sum and logit − bias on the last layer; give hires_cam another layer.",
            'The sum of cam.hires_cam(…, layer="block6d_add", upsample=False), divided by logit − bias.',
        ),
        accept=number(lambda: _sum_of_hires_cam("block6d_add"), relative=0.03),
        because="Behind this layer there are ReLUs and biases: what is not linear need not add up.",
    ),
    "04.1": Exercise(
        hints=(
            "At x = 2 the function is flat. What does the gradient say there? And what on the way from 0?",
            "The attributions of integrated gradients must add up to f(2) − f(0), and there is only one input.",
        ),
        accept=numbers_in_order(_saturated),
        because="Where a network is saturated, the gradient sees nothing of what made the score; the way there does.",
    ),
    "04.2": Exercise(
        hints=(
            "The sum does not depend on the way: it is a difference of two scores of the same class.",
            "Both photographs are in `photographs`, and their scores in `logits`, rows 0 and 3.",
        ),
        accept=number(_koala_instead_of_panda, absolute=0.05),
        because="A baseline is the question 'instead of what?': here instead of the panda, whose own score counts too.",
    ),
    "04.3": Exercise(
        hints=(
            "Section 5 prints these shares for single baselines, in the cell that compares six of them.",
            "The attribution is averaged first and its magnitude taken then; by_baseline holds both parts.",
        ),
        accept=number(lambda: _mass_on_dark_pixels("panda", [0.0, 255.0], 60), absolute=0.02),
        because="Each baseline is blind to its own colour; two that differ cover for each other.",
    ),
    "04.4": Exercise(
        hints=(
            "Give target=lambda outputs: outputs[:, 105] - outputs[:, 388] to integrated_gradients.",
            'Sum the signed attribution over images.masks("koala+panda")["koala"].',
        ),
        accept=number(lambda: _contrast_in_the_half_of("koala", "koala+panda", (105, 388)), absolute=0.5),
        because="Integrated gradients are linear in f: it is what this half adds to the koala, less what to the panda.",
    ),
    "06.1": Exercise(
        hints=(
            "h₁ = 1 + 3, and the ReLU makes h₂ = 2 − 3 zero: only one hidden unit has anything to share.",
            "All of the score goes to h₁. What were its two contributions, and was any of them negative?",
        ),
        accept=numbers_in_order(_shares_of_two_inputs),
        because="Where no active unit is held back by anything, there is nothing to cancel, and the rules agree.",
    ),
    "06.2": Exercise(
        hints=(
            "Against the baseline 0 the ReLU goes from 0 to 2, and so does what it is given. What is its slope?",
            "x₁ has two ways to the output, one direct and one through the ReLU with a minus: add their multipliers.",
        ),
        accept=numbers_in_order(_credit_for_the_smaller),
        because="The smaller one gets all the credit, though without the other the result would be 0 as well.",
    ),
    "06.3": Exercise(
        hints=(
            "Section 5 does it for a 4 and a 9, with six pixels at once; here one after the other, and look each time.",
            "np.argsort(-np.where(digit < 20, relevances, -np.inf).ravel()) is the order in which to paint.",
        ),
        accept=number(lambda: _painted_pixels(1299, 3, 5), relative=0),
        because="A few pixels where ink is missing decide between two digits; the map knew which.",
    ),
    "06.4": Exercise(
        hints=(
            "Section 6 draws these sums for one photograph; `layers=` gives them for a whole batch.",
            'relevance.lrp(network, everything, layers=depths)[1]["block5c_add"].sum((1, 2, 3)), by the score.',
        ),
        accept=word(lambda: _least_relevance_left_at("block5c_add")),
        because="Of all these photographs it is the one whose animal has no class in this network.",
    ),
}

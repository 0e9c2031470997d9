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

from . import cam, deconv, engine, images, models, submodels, units


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


def numbers_in_order(compute):
    """Accepts the list of numbers that `compute()` gives, in its order."""

    def accept(answer):
        try:
            given = np.asarray(answer, float).ravel()
        except (TypeError, ValueError):
            raise TypeError(f"The answer is a list of numbers, such as [1, 0, 2]; this is {_kind(answer)}.") from None
        wanted = np.asarray(compute(), float).ravel()
        return given.shape == wanted.shape and bool(np.allclose(given, wanted))

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
}

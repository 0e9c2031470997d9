"""The exercises and predictions of notebook 00, Start here."""

import numpy as np

from .. import models
from ..pictures import images
from .kinds import Exercise, Prediction, number, word
from .shared import network, top_answers


def _polar_bear_lost():
    bear = images.batch(images.sample("polar_bear"))
    changed = np.concatenate([bear[:, :, ::-1], 255 - bear, bear[:, ::-1]])
    said = [(first[1], first[2]) for (first,) in models.decode(network()(changed), top=1)]
    lost = min(range(3), key=lambda place: said[place][1])
    told = " · ".join(f"{label} {probability:.0%}" for label, probability in said)
    return lost, f"In the order of the choices it says: {told}."


def _no_such_kind():
    _, label, probability = top_answers("narwhal")[0]
    return 2 - int(probability > 0.1) - int(probability > 0.5), f"It says {label}, with {probability:.0%}."


QUESTIONS = {
    "00.1": Exercise(
        "The network answers with 1000 numbers. models.decode turns them into labels, the most probable first.",
        'Let it look: models.decode(network(images.batch(images.sample("koala"))))[0][0] is the first answer.',
        accept=word(lambda: top_answers("koala")[0][1]),
        because="Nobody told the network which photograph it was looking at.",
    ),
    "00.2": Exercise(
        "Which of the five answers has which probability? The third entry of each answer is its probability.",
        "Subtract the probability of the second answer from that of the first.",
        accept=number(lambda: top_answers("narwhal")[0][2] - top_answers("narwhal")[1][2], absolute=0.005),
        because="It has no word for a narwhal, and still prefers one answer by far: confidence is not knowledge.",
    ),
    "00.3": Exercise(
        "images.samples() lists the 28 names. For each: the third entry of the first answer is its probability.",
        "Go through the names with a loop, and keep the one whose first answer has the smallest probability.",
        accept=word(lambda: min(images.samples(), key=lambda name: top_answers(name)[0][2])),
        because="There is no class for this animal; but so it is with the narwhal, where the network sounds sure.",
    ),
    "00.P1": Prediction(
        "The photograph of a polar bear is changed in three ways. After which one does the network not know it again?",
        ("mirrored, left for right", "as a negative: what was white is black", "upside down"),
        _polar_bear_lost,
    ),
    "00.P2": Prediction(
        "There is no narwhal among the thousand kinds. What will the network answer to the photograph of one?",
        (
            "another kind, with more than 50 %",
            "another kind, with 10 to 50 %",
            "it is at a loss: no kind gets more than 10 %",
        ),
        _no_such_kind,
    ),
}

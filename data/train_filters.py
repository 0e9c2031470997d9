"""Train a small network to tell the bundled photographs apart and write filters_from_noise.npz: two minutes, two cores.

A network sees 32 × 32 pixels of one of the 28 photographs and says of which. The file holds its weights at several
steps, to watch the filters of its first layer come out of noise, and the last filters of a twin for which no patch
was made grey.

python data/train_filters.py
"""

import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parent
sys.path.insert(0, str(DATA.parent))  # the repository is not installed as a package

from helpers import engine, images, training  # noqa: E402

SIDE, SIZE, SEEN = 32, 256, 205  # pixels of a patch and of a photograph; the columns right of SEEN are for the test
BATCH = 128
GREY = 0.6  # share of the patches that lose their colours
STEPS = [0, 10, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 250, 300, 400, 500, 600, 800, 1000, 1500]


def patches(photographs, random, count, grey, columns=(0, SEEN)):
    """So many patches from these columns, `(count, 32, 32, 3)` float32, and the number of each one's photograph."""
    labels = random.integers(len(photographs), size=count)
    tops = random.integers(SIZE - SIDE + 1, size=count)
    lefts = random.integers(columns[0], columns[1] - SIDE + 1, size=count)
    places = zip(labels, tops, lefts, strict=True)
    cut = np.stack([photographs[label, top : top + SIDE, left : left + SIDE] for label, top, left in places])
    without = random.random(count) < grey
    cut[without] = cut[without].mean(-1, keepdims=True)
    return cut, labels


def train(grey=GREY):
    """Dict: `steps`, and for each of them `accuracy` and `loss` on unseen columns and the weights, `layer/kernel`."""
    import keras

    keras.utils.set_random_seed(0)
    model = training.which_photograph()
    # AdamW shrinks all weights by a share of each step. What no gradient renews, such as the noise, fades away.
    model.compile(
        keras.optimizers.AdamW(2e-3, weight_decay=1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    photographs = images.batch(*[images.sample(name) for name in images.samples()], size=SIZE)
    unseen, answers = patches(photographs, np.random.default_rng(1), 2000, grey, (SEEN, SIZE))
    random, kept = np.random.default_rng(0), []
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            logits = engine.run(model, unseen, batch=250)
            losses = keras.losses.sparse_categorical_crossentropy(answers, logits, from_logits=True)
            numbers = {"accuracy": np.mean(logits.argmax(1) == answers), "loss": np.mean(losses)}
            weights = {variable.path.split("/", 1)[1]: variable.numpy() for variable in model.weights}
            kept.append(numbers | weights)
            print(f"step {step}: {numbers['accuracy']:.3f}, {numbers['loss']:.3f}", flush=True)
        model.train_on_batch(*patches(photographs, random, BATCH, grey))
    return {"steps": np.array(STEPS, "uint16")} | {
        name: np.stack([one[name] for one in kept]).astype("float16") for name in kept[0]
    }


def main():
    in_colour = train(grey=0)
    alone = {f"in_colour/{name}": in_colour[name][-1] for name in ("conv1/kernel", "accuracy")}
    np.savez_compressed(DATA / "filters_from_noise.npz", **train(), **alone)


if __name__ == "__main__":
    main()

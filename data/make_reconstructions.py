"""Write reconstructions.npz: photographs found again from single layers of VGG19, by searches that are long enough.

python data/make_reconstructions.py

This takes about a quarter of an hour on two quiet cores, so notebook 02 shows these and runs a shorter search itself.
A long search is sensitive to the last bit of a number: on another processor the pictures differ a little.
"""

import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parent
sys.path.insert(0, str(DATA.parent))  # the repository is not installed as a package

from helpers import images, inversion, models  # noqa: E402

SIDE = 112
STEPS = {"block1_conv2": 60, "block2_conv2": 120, "block3_conv1": 200, "block4_conv2": 400, "block5_conv2": 700}
SEARCHES = [(photograph, layer, 0) for photograph in ("koala", "panda") for layer in STEPS]
SEARCHES += [("koala", "block5_conv2", 1), ("scarlet_macaw", "block5_conv2", 0)]  # another start, another photograph


def search(photograph, layer, seed):
    """Dict of the picture that was found, `(112, 112, 3)` uint8, the loss after each step, and the feature error."""
    target = images.batch(images.sample(photograph), size=SIDE)[0]
    found = inversion.invert(models.load("vgg19", size=SIDE), target, layer, steps=STEPS[layer], seed=seed)
    name = f"{photograph}/{layer}/{seed}"
    picture = np.rint(found.picture).astype("uint8")
    return {f"{name}/picture": picture, f"{name}/losses": found.losses[0], f"{name}/error": found.errors[0]}


def main():
    arrays = {}
    for one in SEARCHES:
        arrays |= search(*one)
    np.savez_compressed(DATA / "reconstructions.npz", **arrays)


if __name__ == "__main__":
    main()

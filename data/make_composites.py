"""Write composites/: each picture of two objects that `helpers.images` knows, and where they are.

python data/make_composites.py
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

DATA = Path(__file__).resolve().parent
sys.path.insert(0, str(DATA.parent))  # the repository is not installed as a package

from helpers import images  # noqa: E402


def main():
    (DATA / "composites").mkdir(exist_ok=True)
    for name in images.COMPOSITES:
        second = name.partition("+")[2]
        Image.fromarray(images.sample(name)).save(DATA / "composites" / f"{name}.png")
        mask = np.where(images.masks(name)[second], 255, 0).astype("uint8")
        Image.fromarray(mask).save(DATA / "composites" / f"{name}.mask.png")


if __name__ == "__main__":
    main()

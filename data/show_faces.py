"""Draw the eyes and noses that faces.csv marks, to look whether they are where they should be.

python data/show_faces.py faces.png
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

DATA = Path(__file__).resolve().parent
sys.path.insert(0, str(DATA.parent))  # the repository is not installed as a package

from helpers import images  # noqa: E402

SIDE, RADIUS = 448, 5  # pixels


def drawn(name):
    """The face in a photograph, `(SIDE, SIDE, 3)` uint8, with a ring around each mark."""
    picture, marks = images.face(name, SIDE)
    picture = Image.fromarray(picture)
    for row, column in marks.values():
        box = column - RADIUS, row - RADIUS, column + RADIUS, row + RADIUS
        ImageDraw.Draw(picture).ellipse(box, outline=(255, 0, 255), width=2)
    return np.asarray(picture)


def main():
    Image.fromarray(images.tile([drawn(name) for name in images.faces()], columns=3)).save(sys.argv[1])


if __name__ == "__main__":
    main()

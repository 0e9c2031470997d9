"""Worksheets: predictions, pictures that do not say what they show, room to write, and the answers on another page."""

import io
import re

import nbformat
import numpy as np
import pytest
from PIL import Image

from helpers import plots
from tests.tools import notebook as nb
from tests.tools import worksheet

ALL = pytest.mark.parametrize("path", nb.paths(), ids=lambda path: path.stem)


def outcome(id):
    return 1, "It is 7 of 8."


def asked(notebook):
    return [id for id in map(nb.prediction, nb.code_cells(notebook)) if id]


@ALL
def test_front_asks_back_shows_and_only_the_last_page_answers(path):
    notebook = nb.read(path)
    front, back, answers = worksheet.page(notebook, outcome).split("<section")[1:]
    ids = asked(notebook)
    assert re.findall(r"<b>(0\d\.P\d)", front) == re.findall(r"<b>(0\d\.P\d)", back) == ids
    assert front.count('class="room"') == 1 + len(ids)
    assert back.count('class="room"') == len(ids)
    assert re.findall(r"<b>(0\d\.P\d): B</b>", answers) == ids
    assert answers.count("It is 7 of 8.") == len(ids)
    for id in ids:
        picture, lines, finding, words = worksheet.result(notebook, id)
        assert picture or lines
        assert not picture or finding or path.stem.startswith("07")  # explorers have no title
        for told in filter(None, [finding, words[15:60]]):
            assert told not in front + back
    assert back.count("<img") == sum(worksheet.result(notebook, id)[0] is not None for id in ids)


@pytest.mark.parametrize("title", ["Nine in ten", "Too long for one line, as findings of some weight are, " * 2])
def test_picture_without_its_title_is_the_picture_without_a_title(title):
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), "uint8")
    drawn = {text: plots.grid([noise, noise], ["left", "right"], title=text).encoded()[1] for text in (title, None)}
    plain = Image.open(io.BytesIO(drawn[None])).convert("RGB")
    cut = worksheet.untitled(drawn[title], f"plots.grid(x, title={title!r})")
    assert Image.open(io.BytesIO(drawn[title])).height > cut.height + 10
    assert abs(cut.height - plain.height) < 8
    rows = min(cut.height, plain.height)
    found, expected = (np.asarray(picture, float)[-rows:] for picture in (cut, plain))
    assert cut.width == plain.width
    assert np.abs(found[15:] - expected[15:]).mean() < 12


def test_a_title_that_the_code_fills_in_is_read_as_far_as_it_is_written():
    [title] = nb.titles('plots.curves(x, title=f"{name}: nine in ten are zero")')
    assert worksheet.words_of(title) == "nine in ten are zero"


def test_results_end_at_the_next_heading():
    def printing(text):
        output = nbformat.v4.new_output("stream", name="stdout", text=text)
        return nbformat.v4.new_code_cell("print()", outputs=[output])

    text = nbformat.v4.new_markdown_cell("*What you see:* a line.\n\n## 2 · On\n\nMore.")
    asks = nbformat.v4.new_code_cell('predict("01.P1")')
    cells = [printing("before"), asks, printing("one\ntwo"), text, printing("no")]
    found = worksheet.result(nbformat.v4.new_notebook(cells=cells), "01.P1")
    assert found == (None, ["one", "two"], "", "*What you see:* a line.")

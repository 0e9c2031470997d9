"""Worksheets to print: on one sheet the predictions and the pictures that decide them, on another page the answers.

Pictures come without their titles, which state what there is to find. Everything fits A4 and Letter, whatever is on it.
"""

import base64
import html
import io
import math
import re

import numpy as np
from nbconvert.filters import markdown2html
from PIL import Image

from helpers import exercises
from helpers.pictures import figure
from tests.tools import notebook as nb
from tests.tools import run

WIDTH, HEIGHT, GAP = 180, 236, 4  # mm: of a page, of what stands on it under its title, and between two parts
WORDS = 600  # about what happens: what a page holds
LINE, LETTERS = 3.4, 0.62  # lines of what is printed are so many mm high, and a line holds so many letters for each mm
WIDE = 2.2  # from this ratio of width to height on a picture may have the width of the page

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  @page {{ margin: 10mm 14mm; }}
  body {{ font: 10.5pt/1.35 system-ui, sans-serif; color: #222; margin: 0 auto; width: 180mm; }}
  section {{ height: 256mm; display: flex; flex-direction: column; gap: 4mm; break-after: page; overflow: hidden; }}
  section:last-child {{ break-after: auto; }}
  h1, h2 {{ font-size: 14pt; line-height: 1.2; margin: 0; }}
  header {{ display: flex; justify-content: space-between; gap: 6mm; }}
  header span {{ white-space: nowrap; color: #555; }}
  p, ol, pre {{ margin: 0; }}
  ol {{ list-style: upper-alpha; padding-left: 7mm; }}
  .many ol {{ columns: 2; }}
  article {{ flex: 1; display: flex; flex-direction: column; gap: 2mm; overflow: hidden; }}
  .row {{ flex: 1; display: flex; flex-direction: row; gap: 4mm; }}
  .column {{ flex: 1; display: flex; flex-direction: column; gap: 2mm; }}
  img {{ flex: none; }}
  mjx-container svg * {{ stroke: none; }}
  pre {{ font-size: 7.5pt; line-height: 1.25; white-space: pre-wrap; max-width: 95mm; }}
  .room {{ flex: 1; border: 1px solid #999; border-radius: 4px; padding: 1mm 3mm; color: #777; }}
  .answers {{ font-size: 9.5pt; }}
  .answers article {{ display: block; flex: none; }}
  .answers p {{ margin: 0 0 1mm; }}
  @media screen {{ section {{ margin: 8mm 0; border-bottom: 1px dashed #999; }} }}
</style>
</head>
{sections}
</html>
"""
FRONT = """<section class="{kind}">
<header><h1>{title}</h1><span>Name ________________</span></header>
<div class="row">{hero}{room}</div>
{questions}
<p>Turn the page when all of it is written down.</p>
</section>"""
BACK = """<section>
<h2>What happens</h2>
<p>Look, and compare with what you expected.</p>
{results}
</section>"""
ANSWERS = """<section class="answers">
<h2>Answers: {title}</h2>
{answers}
</section>"""


def question(id):
    """The prediction with this number, as the notebooks ask it."""
    return exercises.question(id, "prediction")


def spelled_out(id):
    """A prediction and its options, as HTML."""
    options = "".join(f"<li>{option}</li>" for option in map(exercises.marked_up, question(id).options))
    return f'<div class="asked"><b>{id}</b> {exercises.marked_up(question(id).question)}<ol>{options}</ol></div>'


def words_of(title):
    """What the title of a figure says, without what the code fills in."""
    parts = getattr(title, "values", [title])
    return "".join(part.value for part in parts if isinstance(getattr(part, "value", None), str)).strip(" :")


def untitled(content, source):
    """A picture (PIL) that a cell has drawn, without the lines of its title."""
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    titles = nb.titles(source)
    if not titles:
        return picture
    dots = 200 if picture.width > 1000 else 100  # for each inch; a large picture has twice as many
    lines = figure.wrapped(words_of(titles[-1]), picture.width / dots, 12).count("\n") + 1
    inked = np.asarray(picture.convert("L")).min(1) < 128
    tops = np.flatnonzero(inked & ~np.r_[False, inked[:-1]])  # of each line of letters, and of what comes below them
    return picture.crop((0, max(0, tops[lines] - 4), *picture.size))


def hero(notebook):
    """The picture that stands for the notebook."""
    cells = nb.code_cells(notebook)
    cell = next((cell for cell in cells if "thumbnail" in nb.tags(cell)), None)
    return untitled(nb.pictures(cell)[0][1], cell.source)


def result(notebook, id):
    """What shows how a prediction comes out: `(picture or None, printed lines, the finding, the words about it)`."""
    picture, lines, finding, words = None, [], "", []
    for cell, asked in nb.answers_of_predictions(notebook):
        if asked != id:
            continue
        if cell.cell_type == "markdown":
            words.append(nb.HEADING.split(cell.source)[0].strip())
        elif picture is None or not lines:
            lines += [line for output in cell.outputs for line in output.get("text", "").splitlines()]
            if picture is None and nb.pictures(cell):
                picture = untitled(nb.pictures(cell)[0][1], cell.source)
                finding = " ".join(map(words_of, nb.titles(cell.source)))
    return picture, lines, finding, "\n\n".join(words)


def _image(picture, width, height):
    """HTML of a picture that is at most `width` × `height` mm on paper."""
    _, content = figure.encoded(picture)
    scale = min(width / picture.width, height / picture.height)
    size = f"width: {scale * picture.width:.1f}mm; height: {scale * picture.height:.1f}mm"
    return f'<img style="{size}" src="data:image;base64,{base64.b64encode(content).decode()}" alt="">'


def _room(words):
    return f'<div class="room">{words}</div>'


def _question(id):
    return f"<article>{spelled_out(id)}{_room('My prediction, and why:')}</article>"


def _printed(lines, width, height):
    """HTML of as many of the lines as a place of `width` × `height` mm holds."""
    needed = np.cumsum([max(1, math.ceil(len(line) / (LETTERS * width))) for line in lines]) * LINE
    text = "\n".join(line for line, end in zip(lines, needed, strict=True) if end <= height)
    return f"<pre>{html.escape(text)}</pre>" if text else ""


def _result(id, picture, lines, height):
    """HTML of what shows how a prediction comes out, and of room for what a student makes of it, `height` mm high."""
    room = _room(f"<b>{id}</b> What do you see? What does it say about your prediction?")
    if picture is None:
        inside = f'<div class="row">{_printed(lines, 95, height)}{room}</div>'
    elif picture.width > WIDE * picture.height:
        inside = f'{_image(picture, WIDTH, height - 30)}<div class="row">{_printed(lines, 95, 26)}{room}</div>'
    else:
        beside = _printed(lines, 0.4 * WIDTH - 4, height - 26) + room
        inside = f'<div class="row">{_image(picture, 0.6 * WIDTH, height)}<div class="column">{beside}</div></div>'
    return f'<article style="flex: 0 0 {height:.1f}mm">{inside}</article>'


def _results(notebook, asked):
    """HTML of all results; those that are only lines of text take less of the page."""
    found = {id: result(notebook, id)[:2] for id in asked}
    few = [id for id in asked if found[id][0] is None]
    low = 45 if len(few) < len(asked) else HEIGHT / len(asked)
    high = (HEIGHT - low * len(few)) / max(1, len(asked) - len(few))
    return "\n".join(_result(id, *found[id], (low if id in few else high) - GAP) for id in asked)


def _answer(notebook, id, place, numbers, most):
    """HTML of an answer with at most so many words about it, in whole paragraphs."""
    _, _, finding, words = result(notebook, id)
    paragraphs = [part for part in re.split(r"\n\s*\n", words) if not part.startswith("**Try")]
    counts = np.cumsum([len(part.split()) for part in paragraphs])
    words = "\n\n".join(part for part, count in zip(paragraphs, counts, strict=True) if count <= most)
    option = exercises.marked_up(question(id).options[place])
    first = f"<p><b>{id}: {exercises.LETTERS[place]}</b>, {option}. {exercises.marked_up(numbers)}</p>"
    title = f"<p><i>{html.escape(finding[0].upper() + finding[1:])}.</i></p>" if finding else ""
    words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", words)  # on paper no link leads anywhere
    return f"<article>{first}{title}{markdown2html(words)}</article>"


def page(notebook, outcome):
    """The worksheet as HTML: a sheet of two pages, and the answers on a third.

    outcome: number of a prediction → `(place of the option that happens, sentence with the numbers)`.
    """
    title = html.escape(nb.title(notebook))
    asked = [nb.prediction(cell) for cell in nb.code_cells(notebook) if nb.prediction(cell)]
    front = FRONT.format(
        title=title,
        kind="many" if len(asked) > 3 else "few",
        hero=_image(hero(notebook), 0.65 * WIDTH, 70 if len(asked) <= 3 else 40),
        room=_room("What do you see here?"),
        questions="\n".join(map(_question, asked)),
    )
    back = BACK.format(results=_results(notebook, asked))
    answers = ANSWERS.format(
        title=title, answers="\n".join(_answer(notebook, id, *outcome(id), WORDS // len(asked)) for id in asked)
    )
    return run.with_formulas(PAGE.format(title=title, sections=front + back + answers))

"""What the page for teachers refers to is there: links, cells, figures, printed lines, exercises, times, commands."""

import re
from collections import Counter

import pytest

from tests.tools import notebook as nb

PAGE = (nb.FOLDER / "TEACHING.md").read_text(encoding="utf-8")
TEXT, _, DEFINITIONS = PAGE.partition("<!--")
NOTEBOOKS = {path.name: nb.read(path) for path in nb.paths()}
# The links stand at the end of the page: [label]: notebook#cell-id=… "what the cell shows". JupyterLab finds a cell of
# another notebook by its id only, not by a heading.
LINK = re.compile(r"""^\[(.+?)\]: (\S+\.ipynb)(?:#cell-id=(\S+))? (["'])(.+)\4$""", re.MULTILINE)
LINKS = {  # a link to a notebook as a whole shows the title, in the first cell
    label: (name, id or NOTEBOOKS[name].cells[0].id, shown) for label, name, id, _, shown in LINK.findall(DEFINITIONS)
}
CODE = re.compile(r"```.*?```|`[^`]+`", re.DOTALL)
QUESTION = r"\b0\d\.P?\d\b"  # 03.2 is an exercise, 03.P2 a prediction


def plain(text):
    """Without markup and double spaces, so that wrapping a line changes nothing."""
    return " ".join(text.replace("*", "").split())


def printed(cell):
    return plain(" ".join(nb.texts(cell))) if cell.cell_type == "code" else ""


def cells(name):
    return {cell.id: cell for cell in NOTEBOOKS[name].cells}


def code(name):
    return "\n".join(cell.source for cell in nb.code_cells(NOTEBOOKS[name]))


def questions(text):
    """The exercises and predictions that a text names; "03.1 to 03.4" names four."""
    found = set(re.findall(QUESTION, text))
    for first, last in re.findall(rf"({QUESTION}) to ({QUESTION})", text):
        found |= {first[:-1] + str(number) for number in range(int(first[-1]), int(last[-1]) + 1)}
    return found


def labels(text):
    """Labels of links in a text; brackets that hold numbers only are matrices and lists."""
    found = re.findall(r"\[([^\[\]]+)\](?!\()", CODE.sub("", text))
    return {plain(label) for label in found if re.search(r"[A-Za-z]", label) or re.fullmatch(r"0\d( §\d)?", label)}


def blocks():
    """Paragraphs and rows of tables, each with the cells that it links to."""
    for block in re.split(r"\n\s*\n|\n(?=\|)", TEXT):
        linked = [LINKS[label] for label in labels(block)]
        yield block, [(name, cells(name)[id]) for name, id, _ in linked if id in cells(name)]


def test_every_label_is_a_link_and_every_link_is_used():
    assert len(LINKS) == DEFINITIONS.count("]: ")
    assert labels(TEXT) == LINKS.keys()


@pytest.mark.parametrize("label", LINKS)
def test_link_leads_to_the_cell_that_it_describes(label):
    name, id, shown = LINKS[label]
    there = [one for one, cell in cells(name).items() if plain(shown) in plain(cell.source) + printed(cell)]
    assert id in there, f"{shown!r} is in the cells {there} of {name}"


def test_links_to_files_and_headings_lead_somewhere():
    assert [target for target in nb.links(TEXT) if not (nb.FOLDER / target).exists()] == []
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#(.+?)\)", TEXT)) <= anchors


def test_titles_in_quotation_marks_are_titles_of_figures_in_the_notebooks_beside_them():
    quoted = [(title, linked) for block, linked in blocks() for title in re.findall(r"“(.+?)”", block, re.DOTALL)]
    assert len(quoted) > 20
    for title, linked in quoted[1:]:  # the first explains the marks
        assert any(f'"{plain(title)}"' in code(name) for name, _ in linked), title


def test_quoted_outputs_are_printed_by_the_cells_beside_them():
    count = 0
    for block, linked in blocks():
        for quotes in re.findall(r"\bprints\s+(`[^`]+`(?:\s+and\s+`[^`]+`)*)", block):
            for quote in re.findall(r"`([^`]+)`", quotes):
                assert any(plain(quote) in printed(cell) for _, cell in linked), quote
                count += 1
    assert count > 40


def test_exercises_and_predictions_are_those_of_the_notebooks():
    asked = {id for name in NOTEBOOKS for id in re.findall(rf'(?:check|predict)\("({QUESTION})"', code(name))}
    assert questions(TEXT) == asked
    table = TEXT.partition("| on paper, 5 minutes |")[2].partition("\n\n")[0]
    exercises = Counter(id for id in asked if "P" not in id)
    assert Counter(re.findall(QUESTION, table)) == exercises, "each exercise stands once in the table of grading"


def test_times_are_those_that_the_notebooks_give():
    rows = re.findall(r"^\| \[(\d\d)\] \| (.+?) \|", TEXT, re.MULTILINE)
    assert {LINKS[number][0] for number, _ in rows} == NOTEBOOKS.keys()
    for number, time in rows:
        opening = "\n".join(cell.source for cell in NOTEBOOKS[LINKS[number][0]].cells[:4])
        assert time in opening.lower(), number


def test_commands_are_in_the_makefile():
    commands = set(re.findall(r"`make (\w+)", TEXT))
    makefile = (nb.ROOT / "Makefile").read_text(encoding="utf-8")
    assert commands
    assert [one for one in commands if not re.search(rf"^{one}:", makefile, re.MULTILINE)] == []


def test_marks_of_the_exam_add_up():
    exam = TEXT.partition("### Short facts")[2].partition("## Grading")[0]
    parts = re.split(r"^\*\*(\d+)\.\*\* \((\d)\)", exam, flags=re.MULTILINE)[1:]
    marks = {int(number): int(mark) for number, mark in zip(parts[::3], parts[1::3], strict=True)}
    assert list(marks) == list(range(1, len(marks) + 1))
    for number, mark, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        assert sum(map(int, re.findall(r"\*\*\((\d)\)\*\*", text.partition("\n> ")[2]))) == int(mark), number
    total, chosen, short = re.search(r"(\d+) marks in all.*? take ([\d, ]+) \((\d+) marks\)", TEXT, re.DOTALL).groups()
    assert sum(marks.values()) == int(total)
    assert sum(marks[int(number)] for number in chosen.split(", ")) == int(short)

"""Copies for a class: the student's gives nothing away and loses nothing else, the instructor's has everything."""

import ast
import builtins
import json
import re
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from tests.tools import handout
from tests.tools import notebook as nb
from tests.tools.execute import CELL_TIMEOUT

PATHS = nb.paths()
ASKED = {id: path for path in PATHS for id in map(nb.prediction, nb.code_cells(nb.read(path))) if id}
ALL = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A copy of the collection with the handout of its first notebook, where `make handout` writes it."""
    root = tmp_path_factory.mktemp("collection")
    for name in ("helpers", "data", "requirements.txt"):
        (root / name).symlink_to(nb.ROOT / name)
    handout.write([nb.START], root / "build" / "handout")
    return root


def solutions(notebook):
    return [cell for cell in notebook.cells if nb.is_solution(cell)]


def lines(cell):
    """The lines of a solution that give something away; short ones stand elsewhere too."""
    return [line.strip() for line in cell.source.splitlines() if len(line.strip()) > 24 and line != nb.FOLD]


@ALL
def test_student_copy_holds_nothing_of_a_solution(path):
    notebook = nb.read(path)
    assert solutions(notebook)
    elsewhere = "\n".join(cell.source for cell in notebook.cells if not nb.is_solution(cell))
    text = json.dumps(handout.student(notebook), ensure_ascii=False)
    for cell in solutions(notebook):
        assert json.dumps(cell.source, ensure_ascii=False)[1:-1] not in text
        for line in lines(cell):
            assert line in elsewhere or json.dumps(line, ensure_ascii=False)[1:-1] not in text, line
    assert ": Right." not in text
    assert not any("attachments" in cell for cell in handout.student(notebook).cells)


@ALL
def test_student_copy_loses_nothing_else(path):
    notebook = nb.read(path)
    made = handout.student(notebook)
    kept = [cell for cell in notebook.cells if not nb.is_solution(cell)]
    assert [cell.id for cell in made.cells] == [cell.id for cell in kept]
    changed = [old for old, new in zip(kept, made.cells, strict=True) if not same(old, new)]
    assert changed == [kept[0], next(cell for cell in kept if "bootstrap" in nb.tags(cell))]
    assert "colab" not in made.cells[0].source
    assert nb.title(made) == nb.title(notebook)
    assert all(cell.execution_count is None for cell in made.cells if cell.cell_type == "code")
    with_output = [cell for cell in nb.code_cells(made) if cell.outputs]
    assert with_output == [cell for cell in nb.code_cells(made) if nb.prediction(cell)]
    assert with_output


def same(old, new):
    """Whether two cells say the same, but for what is folded and for the titles of figures."""
    if old.cell_type == "markdown":
        unfolded = re.sub(r"<details><summary>.*?</summary>|</details>", "", new.source)
        return unfolded.split() == old.source.replace("*What you see:*", "").split()
    dumped = []
    for source in (old.source, new.source):
        tree = nb.tree(source)
        for title in nb.titles(source):
            tree = ast.parse(ast.unparse(tree).replace(ast.unparse(title), "''"))
        dumped.append(ast.dump(tree))
    return dumped[0] == dumped[1]


@ALL
def test_what_there_is_to_see_is_folded_for_students(path):
    told, folded = (nb.markdown(copy) for copy in (nb.read(path), handout.student(nb.read(path))))
    assert "*What you see:*" not in folded
    assert folded.count("<details>") == folded.count("</details>") >= told.count("*What you see:*")
    assert told.count("*What you see:*") > 0 or path == nb.START


def after(id, notebook):
    """Source of the cells between a prediction and the next heading."""
    found = [(cell, cell.source) for cell, asked in nb.answers_of_predictions(notebook) if asked == id]
    return [(cell, nb.HEADING.split(source)[0] if cell.cell_type == "markdown" else source) for cell, source in found]


def open_words(source):
    return re.sub(r"<details>.*?</details>", "", source, flags=re.DOTALL)


@pytest.mark.parametrize("id", ASKED)
def test_up_to_the_next_heading_nothing_answers_a_prediction(id):
    cells = after(id, handout.student(nb.read(ASKED[id])))
    assert cells
    for cell, source in cells:
        if cell.cell_type == "markdown":
            assert not open_words(source).strip()
        else:
            assert all(f"What do you see? ({id})" in ast.unparse(title) for title in nb.titles(source))


# What gave predictions away: titles, a label, prose.
TOLD = {
    "01.P1": "Two spotted cats come first",
    "01.P2": "nine in ten are zero",
    "02.P2": "Two features, one picture for each rule",
    "02.P3": "Nearly grey, and the network is sure",
    "03.P1": "the answer becomes koala",
    "03.P2": "large ones at the body",
    "03.P3": "Plain grey says nothing",
    "03.P5": "it finds dust",
    "04.P1": "of the promised rise comes",
    "04.P2": "the gradient becomes another one",
    "04.P3": "while the picture is still nearly black",
    "05.P1": "depends on a whole region",
    "05.P2": "Grad-CAM points at what one class",
    "05.P3": "nearly a malinois",
    "05.P4": "Hide the head and the lead",
    "06.P1": "z⁺ gives it most",
    "06.P2": "now an 8",
    "06.P3": "49 convolutions change little",
    "07.P1": "A black patch does most harm",
    "07.P2": "the same picture for an animal",
    "07.P3": "some channel fits any story",
    "08.P1": "Deeper it gets less",
    "08.P2": "the mean of two neighbours less",
}


@pytest.mark.parametrize("id", TOLD)
def test_words_that_answered_a_prediction_are_not_open_to_students(id):
    told, made = (after(id, copy) for copy in (nb.read(ASKED[id]), handout.student(nb.read(ASKED[id]))))
    assert id == "06.P2" or any(TOLD[id] in source for _, source in told)
    assert not any(TOLD[id] in open_words(source) for _, source in made)


@ALL
def test_no_cell_of_a_student_copy_needs_a_name_from_a_solution(path):
    notebook = nb.read(path)
    given = {name for cell in solutions(notebook) for name in names(cell, ast.Store)}
    made = handout.student(notebook)
    bound = {name for cell in nb.code_cells(made) for name in names(cell, ast.Store)} | set(dir(builtins))
    used = {name for cell in nb.code_cells(made) for name in names(cell, ast.Load)}
    assert (used - bound) & given == set()


def names(cell, context):
    return {
        node.id
        for node in ast.walk(nb.tree(cell.source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, context)
    }


@ALL
def test_instructor_copy_has_everything_and_nothing_folded(path):
    notebook = nb.read(path)
    made = handout.instructor(notebook)
    assert [cell.id for cell in made.cells] == [cell.id for cell in notebook.cells]
    assert [cell.get("outputs") for cell in made.cells] == [cell.get("outputs") for cell in notebook.cells]
    for old, new in zip(solutions(notebook), solutions(made), strict=True):
        assert new.source == old.source
        assert new.metadata == {"tags": nb.tags(old)} != old.metadata
    assert "source_hidden" not in json.dumps(made)


@ALL
@pytest.mark.parametrize("make", [handout.student, handout.instructor], ids=lambda make: make.__name__)
def test_copy_is_valid_and_leaves_the_source_alone(path, make):
    notebook = nb.read(path)
    before = nbformat.writes(notebook)
    nbformat.validate(make(notebook))
    assert nbformat.writes(notebook) == before


def test_pages_and_index(collection):
    folder = collection / "build" / "handout"
    index = (folder / "index.html").read_text("utf-8")
    linked = set(re.findall(r'href="([^"]+)"', index))
    copies = {f"{kind}/{nb.START.stem}.{end}" for kind in handout.KINDS for end in ("ipynb", "html")}
    assert linked == copies | {f"worksheet/{nb.START.stem}.html"}
    assert all((folder / target).exists() for target in linked)
    student, instructor = ((folder / kind / f"{nb.START.stem}.html").read_text("utf-8") for kind in handout.KINDS)
    asked = [cell for cell in nb.code_cells(nb.read(nb.START)) if nb.exercise(cell) or nb.prediction(cell)]
    assert student.count('class="room"') == len(asked)
    assert 'class="room"' not in instructor
    assert "data:image/jpeg" in instructor
    assert "data:image/jpeg" not in student
    assert "00.1: Right." in instructor
    assert "00.1: Right." not in student
    for body in (student, instructor):
        assert "@media print" in body
        assert "as a negative: what was white is black" in body  # an option of a prediction, for paper
        assert 'href="../index.html"' in body


@ALL
@pytest.mark.parametrize("make", [handout.student, handout.instructor], ids=lambda make: make.__name__)
def test_links_of_a_copy_lead_to_the_copies_and_thumbnails_beside_it(path, make):
    beside = {path.name for path in PATHS} | {f"thumbnails/{path.stem}.jpg" for path in PATHS}
    assert set(nb.links(nb.markdown(make(nb.read(path))))) <= beside


@pytest.mark.slow
def test_student_copy_runs_where_it_is(collection):
    folder = collection / "build" / "handout" / "student"
    made = nb.read(folder / nb.START.name)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(made, timeout=CELL_TIMEOUT, startup_timeout=120, resources=resources).execute()
    said = "\n".join(text for cell in nb.code_cells(made) for text in nb.texts(cell))
    assert "koala" in said
    assert "00.1: put your answer" in said
    assert "Right" not in said


def first_code(collection):
    made = nb.read(collection / "build" / "handout" / "student" / nb.START.name)
    return next(cell.source for cell in made.cells if "bootstrap" in nb.tags(cell))


def test_copy_beside_the_originals_finds_the_collection(collection, monkeypatch):
    (collection / "notebooks").mkdir()
    monkeypatch.chdir(collection / "notebooks")
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(first_code(collection), {})
    assert sys.path[0] == str(collection)


def test_copy_far_from_the_collection_says_where_to_put_it(collection, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="into the folder `notebooks` of the collection"):
        exec(first_code(collection), {})


def test_another_bootstrap_cell_is_noticed():
    notebook = nb.read(nb.START)
    cell = next(cell for cell in notebook.cells if "bootstrap" in nb.tags(cell))
    cell.source = cell.source.replace("parent", "absolute()")
    with pytest.raises(ValueError, match="has lost the line"):
        handout.student(notebook)

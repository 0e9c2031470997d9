"""Copies for a class: the student's gives nothing away and loses nothing else, the instructor's has everything."""

import ast
import builtins
import json
import re

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from tests.tools import handout
from tests.tools import notebook as nb
from tests.tools.execute import CELL_TIMEOUT

PATHS = nb.paths()
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
    changed = [old for old, new in zip(kept, made.cells, strict=True) if old.source != unfolded(new.source)]
    assert changed == [kept[0], next(cell for cell in kept if "bootstrap" in nb.tags(cell))]
    assert "colab" not in made.cells[0].source
    assert nb.title(made) == nb.title(notebook)
    assert all(cell.execution_count is None for cell in made.cells if cell.cell_type == "code")
    with_output = [cell for cell in nb.code_cells(made) if cell.outputs]
    assert with_output == [cell for cell in nb.code_cells(made) if nb.prediction(cell)]
    assert with_output


def unfolded(source):
    return re.sub(r"<details><summary>.*?</summary>\n\n(.*?)\n\n</details>", r"*What you see:* \1", source, flags=re.S)


@ALL
def test_what_there_is_to_see_is_folded_for_students(path):
    told, folded = (nb.markdown(copy) for copy in (nb.read(path), handout.student(nb.read(path))))
    assert "*What you see:*" not in folded
    assert folded.count("<details>") == folded.count("</details>") == told.count("*What you see:*")
    assert told.count("*What you see:*") > 0 or path == nb.START


@ALL
def test_no_cell_of_a_student_copy_needs_a_name_from_a_solution(path):
    notebook = nb.read(path)
    given = {name for cell in solutions(notebook) for name in names(cell, ast.Store)}
    made = handout.student(notebook)
    bound = {name for cell in nb.code_cells(made) for name in names(cell, ast.Store)} | set(dir(builtins))
    used = {name for cell in nb.code_cells(made) for name in names(cell, ast.Load)}
    assert (used - bound) & given == set()


def names(cell, context):
    tree = ast.parse(TransformerManager().transform_cell(cell.source))
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, context)}


@ALL
def test_instructor_copy_has_everything_and_nothing_folded(path):
    notebook = nb.read(path)
    made = handout.instructor(notebook)
    assert [cell.id for cell in made.cells] == [cell.id for cell in notebook.cells]
    assert [cell.get("outputs") for cell in made.cells] == [cell.get("outputs") for cell in notebook.cells]
    for old, new in zip(solutions(notebook), solutions(made), strict=True):
        assert new.source == old.source.replace(nb.FOLD, "# Solution") != old.source
    assert "source_hidden" not in json.dumps(made)
    assert "display-mode" not in json.dumps(made)


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
    assert linked == {f"{kind}/{nb.START.stem}.{end}" for kind in handout.KINDS for end in ("ipynb", "html")}
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
        assert "Madagascar cat, which is a lemur" in body  # an option of a prediction, for paper
        assert 'href="../index.html"' in body


def test_links_of_the_copies_lead_somewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(handout, "page", lambda *_: "")  # pages have the links of their notebooks
    handout.write(PATHS, tmp_path)
    for kind in handout.KINDS:
        for path in PATHS:
            targets = nb.links(nb.markdown(nb.read(tmp_path / kind / path.name)))
            assert [target for target in targets if not (tmp_path / kind / target).exists()] == []


@pytest.mark.parametrize("place", ["build/handout/student", "notebooks"])
def test_student_copy_runs_where_it_is_and_beside_the_originals(collection, place):
    folder = collection / place
    folder.mkdir(exist_ok=True)
    made = nb.read(collection / "build" / "handout" / "student" / nb.START.name)
    client = NotebookClient(
        made, timeout=CELL_TIMEOUT, startup_timeout=120, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    said = "\n".join(text for cell in nb.code_cells(made) for text in nb.texts(cell))
    assert "koala" in said
    assert "00.1: not answered yet." in said


def test_copy_far_from_the_collection_says_where_to_put_it(collection, tmp_path, monkeypatch):
    made = nb.read(collection / "build" / "handout" / "student" / nb.START.name)
    source = next(cell.source for cell in made.cells if "bootstrap" in nb.tags(cell))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="into the folder `notebooks` of the collection"):
        exec(source, {})


def test_another_bootstrap_cell_is_noticed():
    notebook = nb.read(nb.START)
    cell = next(cell for cell in notebook.cells if "bootstrap" in nb.tags(cell))
    cell.source = cell.source.replace("parent", "absolute()")
    with pytest.raises(ValueError, match="has lost the line"):
        handout.student(notebook)

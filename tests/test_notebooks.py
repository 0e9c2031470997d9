"""Every notebook keeps the rules of the collection, and each rule notices a notebook that breaks it."""

import base64
import io
import sys

import nbformat
import numpy as np
import pytest
from PIL import Image

from tests.tools import checks, execute, gallery, run
from tests.tools import notebook as nb

PATHS = nb.paths()
ALL = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


@ALL
@pytest.mark.parametrize("rule", checks.RULES, ids=lambda rule: rule.__name__)
def test_notebook_keeps_the_rule(path, rule):
    assert rule(nb.read(path), path) == []


def test_app_is_a_page_of_its_own():
    """One cell chooses, no exercise, and no link: from the app nothing else in the folder can be opened."""
    page = nb.read(nb.APP)
    assert checks.problems(page, nb.APP) == []
    assert nb.APP not in PATHS
    assert not any(nb.exercise(cell) or nb.prediction(cell) for cell in nb.code_cells(page))
    assert "](" not in nb.markdown(page)


def test_every_notebook_can_be_reached():
    texts = {path.name: nb.markdown(nb.read(path)) for path in PATHS}
    readme = gallery.README.read_text(encoding="utf-8")
    assert checks.reachable(readme, texts) == texts.keys()
    assert checks.reachable(texts[nb.START.name], texts) | {nb.START.name} == texts.keys()


def test_gallery_of_the_readme_is_what_the_notebooks_say():
    readme = gallery.README.read_text(encoding="utf-8")
    assert gallery.with_gallery(readme, PATHS) == readme, "run `make gallery`"


@ALL
def test_thumbnail_is_the_picture_of_the_notebook(path):
    stored = np.asarray(Image.open(gallery.THUMBNAILS / f"{path.stem}.jpg"), "float32")
    assert np.abs(stored - np.asarray(gallery.thumbnail(nb.read(path)), "float32")).mean() < 4, "run `make gallery`"
    assert stored.std() > 5, "an empty picture"


# A good notebook in miniature, and one that breaks each rule.


def picture(size=(60, 40), format="png", noise=False):
    pixels = np.random.default_rng(0).integers(0, 256 if noise else 1, (*size[::-1], 3), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def good(tmp_path):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_markdown_cell("# A title\n\nThe *first* sentence. The second one.")]
    nb.stamp(notebook, "good")
    for n in range(5):
        printed = nbformat.v4.new_output("stream", name="stdout", text=f"{n}\n")
        notebook.cells.append(nbformat.v4.new_code_cell(f"print({n})", outputs=[printed]))
    notebook.cells.append(nbformat.v4.new_code_cell('predict("01.P1")'))
    for n in range(1, 4):
        notebook.cells.append(nbformat.v4.new_code_cell(f'check("01.{n}", ...)'))
        right = nbformat.v4.new_output("stream", name="stdout", text=f"01.{n}: Right. It is.\n")
        solution = nbformat.v4.new_code_cell(f'{nb.FOLD}\ncheck("01.{n}", {n})', outputs=[right])
        solution.metadata = nbformat.from_dict({"tags": ["solution"], **nb.FOLDED})
        notebook.cells.append(solution)
    shown = nbformat.v4.new_output("display_data", {"image/png": picture(), "text/plain": "<Figure size 1x1>"})
    notebook.cells.append(nbformat.v4.new_code_cell("figure", outputs=[shown]))
    for place, cell in enumerate(nb.code_cells(notebook), 1):
        cell.execution_count = place
    return notebook, tmp_path / "good.ipynb"


def problems(notebook, path):
    nb.write(notebook, path)
    return checks.problems(notebook, path)


def test_good_notebook_has_no_problems(good):
    assert problems(*good) == []


def never_executed(notebook):
    notebook.cells[3].execution_count = None


def executed_out_of_order(notebook):
    first, second = notebook.cells[2:4]
    first.execution_count, second.execution_count = second.execution_count, first.execution_count


def without_outputs(notebook):
    for cell in nb.code_cells(notebook):
        cell.outputs = []


def ended_in_an_error(notebook):
    notebook.cells[3].outputs = [nbformat.v4.new_output("error", ename="KeyError", evalue="'x'", traceback=[])]


def wrote_to_stderr(notebook):
    notebook.cells[3].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="a warning"))


def too_large(notebook):
    notebook.cells[0].source += "x" * 4_000_000


def large_picture(notebook):
    notebook.cells[-1].outputs[0].data["image/png"] = picture((500, 400), noise=True)


def three_heroes(notebook):
    notebook.cells[-1].outputs[0].data["image/png"] = picture((400, 300), noise=True)
    notebook.cells[-1].outputs *= 3


def large_animation_in_html(notebook):
    notebook.cells[-1].outputs[0].data["text/html"] = (
        f'<img src="data:image/gif;base64,{base64.b64encode(bytes(1_100_000)).decode()}">'
    )


def long_cell(notebook):
    notebook.cells[3].source = "\n".join(f"print({n})" for n in range(21))


def long_text(notebook):
    notebook.cells[0].source += "\n\n" + "word " * 121


def printed_boolean(notebook):
    notebook.cells[3].outputs[0].text = "the same: True\n"


def jet(notebook):
    notebook.cells[-1].source = 'plt.imshow(heatmap, cmap="jet")'


def ignored_numbers(notebook):
    notebook.cells[3].metadata.tags = ["nbval-ignore-output"]


def numbers_ignored_by_comment(notebook):
    notebook.cells[3].source = "# NBVAL_IGNORE_OUTPUT\nprint(1)"


def only_a_figure(notebook):
    notebook.cells[3].outputs = notebook.cells[-1].outputs


def without_a_prediction(notebook):
    next(cell for cell in notebook.cells if cell.source.startswith("predict")).source = "pass"


def only_two_exercises(notebook):
    next(cell for cell in notebook.cells if "..." in cell.source).source = "pass"


def solution_that_is_not_right(notebook):
    notebook.cells[-2].outputs[0].text = "01.3: Not yet. Hint: think\n"


def solution_in_the_open(notebook):
    notebook.cells[-2].metadata = nbformat.from_dict({"tags": ["solution"]})


def without_badge(notebook):
    notebook.cells[0].source = "# A title\n\nThe first sentence."


def badge_of_another(notebook):
    notebook.cells[0].source = f"# A title\n\n{nb.badge('another')}"


def changed_bootstrap(notebook):
    notebook.cells[1].source += "\n!pip install tensorflow"


def dead_link(notebook):
    notebook.cells[0].source += "\n\n[next](02_not_there.ipynb)"


def invalid(notebook):
    notebook.cells[3].outputs[0].output_type = "nonsense"


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (never_executed, "execution count None where 3 is expected"),
        (executed_out_of_order, "execution count 3 where 2 is expected"),
        (without_outputs, "no cell has an output"),
        (ended_in_an_error, "ended in KeyError"),
        (wrote_to_stderr, "wrote to stderr"),
        (too_large, "4.0 MB, at most 4 MB"),
        (large_picture, "image/png of 6"),
        (three_heroes, "image/png of 3"),
        (large_animation_in_html, "image/gif of 1100 kB"),
        (long_cell, "has 21 lines"),
        (long_text, "words, at most 120"),
        (printed_boolean, "prints True or False"),
        (jet, "uses jet"),
        (ignored_numbers, "4 code cells with compared text"),
        (numbers_ignored_by_comment, "4 code cells with compared text"),
        (only_a_figure, "4 code cells with compared text"),
        (without_a_prediction, "0 predictions, at least 1"),
        (only_two_exercises, "2 exercises, at least 3"),
        (solution_that_is_not_right, "no solution of exercise 01.3 came out right"),
        (solution_in_the_open, "is not folded"),
        (without_badge, "lacks the badge"),
        (badge_of_another, "lacks the badge"),
        (changed_bootstrap, "not the bootstrap cell"),
        (dead_link, "02_not_there.ipynb, which is not there"),
        (invalid, "not a valid notebook"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_rule_notices(good, breaks, says):
    notebook, path = good
    breaks(notebook)
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    found = checks.problems(notebook, path)
    assert any(says in problem for problem in found), found


def test_reachable_follows_links_and_leaves_islands_out():
    notebooks = {"a.ipynb": "[b](b.ipynb)", "b.ipynb": "[a](a.ipynb)", "c.ipynb": "[a](a.ipynb)"}
    assert checks.reachable('<a href="notebooks/a.ipynb">', notebooks) == {"a.ipynb", "b.ipynb"}


# What is read off a notebook.


def test_title_and_first_sentence(good):
    notebook, _ = good
    assert nb.title(notebook) == "A title"
    assert nb.summary(notebook) == "The first sentence."


def test_stamp_changes_nothing_the_second_time(good):
    notebook, _ = good
    before = nbformat.writes(notebook)
    nb.stamp(notebook, "good")
    assert nbformat.writes(notebook) == before


def test_tagged_picture_comes_first(good):
    notebook, _ = good
    assert nb.thumbnail_source(notebook) == base64.b64decode(picture())
    other = nbformat.v4.new_output("display_data", {"image/jpeg": picture((8, 8), "jpeg")})
    notebook.cells.append(nbformat.v4.new_code_cell("other", outputs=[other], metadata={"tags": ["thumbnail"]}))
    assert nb.thumbnail_source(notebook) == base64.b64decode(picture((8, 8), "jpeg"))


def test_gallery_keeps_what_stands_around_it():
    readme = "\n".join(["before", *sum(([begin, "old", end] for begin, end in gallery.MARKS.values()), []), "after\n"])
    written = gallery.with_gallery(readme, PATHS)
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert "old" not in written
    assert all(f'href="notebooks/{path.name}"' in written for path in PATHS)
    with pytest.raises(ValueError, match="lost the lines"):
        gallery.with_gallery("no marks", PATHS)


def test_a_part_of_a_picture_fills_the_thumbnail(good):
    notebook, _ = good
    left_blue = np.zeros((400, 800, 3), "uint8")
    left_blue[:, :400, 2] = left_blue[:, 400:, 0] = 255
    file = io.BytesIO()
    Image.fromarray(left_blue).save(file, "PNG")
    other = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(file.getvalue()).decode()})
    tags = {"tags": ["thumbnail", "crop-60-10-90-90"]}
    notebook.cells.append(nbformat.v4.new_code_cell("other", outputs=[other], metadata=tags))
    card = np.asarray(gallery.thumbnail(notebook))
    assert card.shape == (*gallery.SIZE[::-1], 3) and (card == (255, 0, 0)).all()


def test_the_film_of_the_readme_is_the_first_that_is_tagged(good):
    notebook, path = good
    nb.write(notebook, path)
    assert gallery.moving([path]) == ""
    film = nbformat.v4.new_output("display_data", {"image/gif": picture(format="gif")})
    notebook.cells.append(nbformat.v4.new_code_cell("film", outputs=[film], metadata={"tags": ["film"]}))
    nb.write(notebook, path)
    assert nb.film(notebook) == base64.b64decode(picture(format="gif"))
    assert 'src="notebooks/thumbnails/good.gif"' in gallery.moving([path])


def test_pages_link_to_pages(good):
    notebook, _ = good
    notebook.cells[0].source += "\n\n[next](01_next.ipynb), [data](../data/README.md)"
    page = run.page(notebook, "good")
    assert 'href="01_next.html"' in page
    assert 'href="../data/README.md"' in page
    assert 'href="good.html"' in run.index({"good": notebook})


def test_pages_have_contents_and_their_code_is_folded(good):
    notebook, _ = good
    notebook.cells.append(nbformat.v4.new_markdown_cell("## A *section*"))
    page = run.page(notebook, "good")
    assert '<li><a href="#A-section">A <em>section</em></a></li>' in page
    assert page.count('<details class="code">') == len(nb.code_cells(notebook))


# Execution for a commit.


def small(*sources):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def test_execute_captures_like_the_regression_run():
    source = "import os, sys\nos.write(2, b'a log of C++')\nprint(6 * 7)"
    executed, peak = execute.execute(small(source, "import sys; sys.prefix"))
    assert [output.output_type for output in executed.cells[0].outputs] == ["stream"]
    assert executed.cells[0].outputs[0].text == "42\n"
    assert executed.cells[1].outputs[0].data["text/plain"] == repr(sys.prefix)
    assert [cell.execution_count for cell in executed.cells] == [1, 2]
    assert peak > 1e7


def test_execute_raises_at_the_first_error():
    with pytest.raises(execute.CellExecutionError, match="ZeroDivisionError"):
        execute.execute(small("1 / 0"))


def test_normalise_keeps_tags_and_drops_what_changes_by_itself(good):
    notebook, _ = good
    notebook.metadata.widgets = {"state": {}}
    notebook.metadata.language_info = {"name": "python", "version": "3.11.7"}
    cell = notebook.cells[-1]
    cell.metadata = nbformat.from_dict({"tags": ["thumbnail"], "execution": {"iopub.execute_input": "2026"}})
    cell.outputs[0].data["application/vnd.jupyter.widget-view+json"] = {"model_id": "random"}
    notebook.cells.append(nbformat.from_dict(cell))
    pieces = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in ("4", "2\n")]
    notebook.cells[3].outputs = pieces
    execute.normalise(notebook)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert notebook.cells[-1].metadata == {"tags": ["thumbnail"]}
    assert [output.text for output in notebook.cells[3].outputs] == ["42\n"]
    assert set(cell.outputs[0].data) == {"image/png", "text/plain"}
    first = [cell.id for cell in notebook.cells]
    assert len(set(first)) == len(first)
    execute.normalise(notebook)
    assert [cell.id for cell in notebook.cells] == first

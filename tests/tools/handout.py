"""Copies for a class in build/handout/: python -m tests.tools.handout

Each notebook becomes a student copy, without solutions and outputs and with the descriptions of pictures folded, and an
instructor copy with everything, solutions unfolded; both as a notebook and as a page to print. And it becomes a
worksheet for those who have no computer. The notebooks are taken as they are committed, none is executed; only how the
predictions come out is computed.
"""

import ast
import copy
import html
import re
import shutil

import nbformat
from tqdm import tqdm

from tests.tools import gallery, run, worksheet
from tests.tools import notebook as nb

FOLDER = run.BUILD / "handout"
KINDS = ("student", "instructor")

# The notebooks look for the package next to their folder. A copy lies deeper, or wherever a student has put it.
AT_HOME = "sys.path.insert(0, str(Path.cwd().parent))"
ANYWHERE = """\
homes = [folder for folder in Path.cwd().parents if (folder / "helpers" / "exercises").exists()]
if not homes:
    raise FileNotFoundError("Move this notebook into the folder `notebooks` of the collection, and open it there.")
sys.path.insert(0, str(homes[0]))"""

LOOK = "What do you see?"  # the title of a figure that would answer a prediction
SEEN = re.compile(r"^\*What you see:\* ?(.*?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
TO_OPEN = "<details><summary><i>{}</i> open it when you have looked</summary>\n\n{}\n\n</details>"

PRINT = """<style>
  .asked { border-left: 4px solid #0b57a4; padding: 2px 12px; }
  .asked ol { list-style: upper-alpha; margin: 4px 0 0; }
  .room { height: 7em; border: 1px solid #999; border-radius: 4px; padding: 4px 8px; color: #777; }
  .jp-InputPrompt, .jp-OutputPrompt, details { display: none; }
  @page { margin: 16mm 15mm; }
  @media print {
    nav { display: none; }
    body, main { font-size: 10.5pt; max-width: none; padding: 0; }
    .jp-RenderedHTMLCommon { font-size: 10.5pt; }
    .highlight pre, .jp-RenderedText pre, .jp-RenderedHTMLCommon pre { font-size: 8.5pt; white-space: pre-wrap;
      word-break: normal; overflow-wrap: anywhere; }
    .jp-InputArea-editor .highlight, .jp-RenderedText, .jp-RenderedHTML, .jp-OutputArea-child { overflow: visible; }
    h1, h2, h3, .jp-MarkdownCell:has(h2:last-child), .jp-MarkdownCell:has(h3:last-child),
      .jp-CodeCell:has(img), .jp-Cell:has(+ .jp-MarkdownCell .asked),
      .jp-Cell:has(+ .jp-MarkdownCell .room) { break-after: avoid; }
    img, svg, table, tr, pre, li, .asked, .room, .jp-Cell-inputWrapper:not(:has(p)), .jp-OutputArea-child {
      break-inside: avoid; }
    p { orphans: 3; widows: 3; }
    img { max-height: 225mm; object-fit: contain; object-position: left; }
    mjx-container svg * { stroke: none; }
    a { color: inherit !important; text-decoration: none; }
  }
</style>
</head>"""

INDEX = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Handouts</title>
<style>
  body {{ font: 17px/1.5 system-ui, sans-serif; color: #222; margin: 0 auto; padding: 1.5rem 1rem; max-width: 60rem; }}
  table {{ border-collapse: collapse; }}
  th, td {{ text-align: left; vertical-align: top; padding: 0.4rem 1rem 0.4rem 0; border-top: 1px solid #ccc; }}
  a {{ color: #0b57a4; }}
</style>
<h1>Handouts</h1>
<p>A worksheet is one sheet of paper, for a class without computers: what will happen on its front, what happens on its
back. Page 3 holds the answers. Student copies have neither solutions nor outputs, and what there is to see in a picture
is folded; the questions and the places for the answers are left. Instructor copies have everything, with the solutions
unfolded. The pages are made for paper, A4 or Letter. The notebooks run where they are, and in the folder
<code>notebooks</code> of any copy of the collection; on Colab they fetch it themselves.</p>
<table>
<tr><th>notebook</th><th>on paper</th><th>for students</th><th>for the instructor</th></tr>
{rows}
</table>
</html>
"""


def student(notebook):
    """A copy without solutions and outputs, in which one has to look before one reads what there is to see.

    What is left of the outputs are the options of the predictions. Up to the next heading nothing answers them: the
    titles of figures ask instead, and all words are folded.
    """
    found = _movable(notebook)
    first = found.cells[0]
    first.source = re.sub(r"\n*\[!\[Open in Colab\].*", "", first.source)  # it leads to the solutions
    found.cells = [cell for cell in found.cells if not nb.is_solution(cell)]
    for cell, asked in nb.answers_of_predictions(found):
        if cell.cell_type == "markdown":
            cell.source = _folded(cell.source, asked)
            continue
        cell.execution_count = None
        if asked:
            cell.source = _asking(cell.source, asked)
        if not nb.prediction(cell):
            cell.outputs = []
    return found


def _folded(text, asked):
    """Text with *What you see* folded; after a prediction, all that stands before the next heading."""
    first, *rest = nb.HEADING.split(text, maxsplit=1)
    if asked and first.strip():
        seen, what = re.subn(r"^\*What you see:\* ", "", first.strip())
        first = TO_OPEN.format("What you see:" if what else f"To {asked}:", seen) + "\n\n" * bool(rest)
    return "".join(SEEN.sub(lambda found: TO_OPEN.format("What you see:", found[1]), part) for part in [first, *rest])


def _asking(source, asked):
    """Code in which the titles of figures ask; a name before the finding, which the code fills in, is left."""
    lines = source.encode().splitlines(keepends=True)
    for title in nb.titles(source):
        named = isinstance(title, ast.JoinedStr) and isinstance(title.values[0], ast.FormattedValue)
        name = f"{{{ast.unparse(title.values[0].value)}}}: " if named else ""
        start, end = title.lineno - 1, title.end_lineno - 1
        before, after = lines[start][: title.col_offset], lines[end][title.end_col_offset :]
        lines[start : end + 1] = [before + f'{"f" * named}"{name}{LOOK} ({asked})"'.encode() + after]
    return b"".join(lines).decode()


def instructor(notebook):
    """A copy with everything in it, and nothing folded."""
    found = _movable(notebook)
    for cell in found.cells:
        for key in nb.FOLDED:
            cell.metadata.pop(key, None)
    return found


def _movable(notebook):
    """A copy of a notebook that finds the package from whatever folder of the collection it lies in."""
    found = copy.deepcopy(notebook)
    cell = next(cell for cell in found.cells if "bootstrap" in nb.tags(cell))
    if AT_HOME not in cell.source:
        raise ValueError(f"the bootstrap cell has lost the line {AT_HOME!r} that a handout replaces")
    cell.source = cell.source.replace(AT_HOME, ANYWHERE)
    return found


def page(notebook, name, kind):
    """A page to print: predictions are spelled out, and the student's has room for answers."""
    body = run.page(_for_paper(notebook, kind), name).replace('href="index.html"', 'href="../index.html"')
    return body.replace("</head>", PRINT, 1)


def _for_paper(notebook, kind):
    """A copy in which the questions of predictions are text, with a box to write into for students."""
    found = copy.deepcopy(notebook)
    cells = []
    for cell in found.cells:
        if "bootstrap" in nb.tags(cell):
            continue
        cells.append(cell)
        room = None
        if cell.cell_type == "code" and nb.prediction(cell):
            cell.outputs, room = [], "My prediction, and why it comes out like this:"
            cells.append(nbformat.v4.new_markdown_cell(worksheet.spelled_out(nb.prediction(cell))))
        elif cell.cell_type == "code" and nb.exercise(cell):
            room = "My answer:"
        if room and kind == "student":
            cells.append(nbformat.v4.new_markdown_cell(f'<div class="room">{room}</div>'))
    found.cells = cells
    return found


def _row(name, title):
    links = "".join(
        f'<td><a href="{kind}/{name}.html">page to print</a><br><a href="{kind}/{name}.ipynb">notebook</a></td>'
        for kind in KINDS
    )
    sheet = f'<td><a href="worksheet/{name}.html">worksheet</a></td>'
    return f"<tr><td>{html.escape(title)}</td>{sheet}{links}</tr>"


def write(paths, folder, outcome=lambda id: worksheet.question(id).outcome()):
    """Write the worksheet and both copies of each notebook, as notebook and as page, and an index of all into `folder`.

    outcome: number of a prediction → how it comes out, as `Prediction` has it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "worksheet").mkdir(parents=True)
    rows = []
    for kind in KINDS:
        shutil.copytree(gallery.THUMBNAILS, folder / kind / "thumbnails")
    for path in tqdm(paths, unit="notebook"):
        source = nb.read(path)
        sheet = worksheet.page(source, outcome)
        (folder / "worksheet" / f"{path.stem}.html").write_text(sheet, encoding="utf-8")
        for kind, made in (("student", student(source)), ("instructor", instructor(source))):
            nb.write(made, folder / kind / path.name)
            (folder / kind / f"{path.stem}.html").write_text(page(made, path.stem, kind), encoding="utf-8")
        rows.append(_row(path.stem, nb.title(source)))
    (folder / "index.html").write_text(INDEX.format(rows="\n".join(rows)), encoding="utf-8")


def main():
    write(nb.paths(), FOLDER)
    print(f"Open {(FOLDER / 'index.html').as_uri()}")


if __name__ == "__main__":
    main()

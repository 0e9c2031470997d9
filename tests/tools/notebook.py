"""A notebook as this collection writes it: its fixed parts, and what can be read off it."""

import ast
import base64
import re
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

import helpers

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
START = FOLDER / "00_start_here.ipynb"
APP = FOLDER / "app.ipynb"  # the page of `make app`: no chapter, so it has no number

HEADING = re.compile(r"^(?=#+ )", re.MULTILINE)
# A solution: JupyterLab folds it down to its first line, and Colab to a button.
FOLD = "# Solution"
FOLDED = {"jupyter": {"source_hidden": True}, "cellView": "form"}


def bootstrap():
    """The one text of the first code cell.

    At home it only puts the repository on the path; Colab, which has every library, fetches the collection itself, once
    in each runtime and into a folder that carries the branch or tag: another version never finds a stale copy.
    """
    project = helpers.REPOSITORY.partition("/")[2]
    return f"""\
import os
import sys
from pathlib import Path

if "google.colab" in sys.modules:
    url = "https://github.com/{helpers.REPOSITORY}"
    home = Path("/content/{project}-{helpers.BRANCH}")
    clone = f"git clone -q -b {helpers.BRANCH} --depth=1 -c advice.detachedHead=false {{url}} {{home}}"
    if not home.exists() and os.system(clone):
        raise RuntimeError("The clone failed: git says why. Wait a minute, run this cell again.")
    os.chdir(home / "notebooks")
sys.path.insert(0, str(Path.cwd().parent))

from helpers import environment

environment.require()"""


def paths():
    """All notebooks of the collection, in reading order."""
    return sorted(FOLDER.glob("[0-9]*.ipynb"))


def read(path):
    return nbformat.read(path, as_version=4)


def write(notebook, path):
    nbformat.write(notebook, path)


def colab_url(name):
    """Address that opens the notebook called `name` (without .ipynb) in Colab."""
    return f"https://colab.research.google.com/github/{helpers.REPOSITORY}/blob/{helpers.BRANCH}/notebooks/{name}.ipynb"


def badge(name):
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab_url(name)})"


def stamp(notebook, name):
    """Write the fixed parts afresh: the badge under the title, and the bootstrap as first code cell.

    A changed owner, repository or branch in `helpers/__init__.py` reaches every notebook this way.
    """
    first = notebook.cells[0]
    title, _, rest = re.sub(r"\n*\[!\[Open in Colab\].*", "", first.source).partition("\n")
    first.source = f"{title}\n\n{badge(name)}\n\n{rest.strip()}".strip()
    cell = next((cell for cell in notebook.cells if "bootstrap" in tags(cell)), None)
    if cell is None:
        cell = nbformat.v4.new_code_cell(metadata={"tags": ["bootstrap"]})
        notebook.cells.insert(1, cell)
    cell.source = bootstrap()


def code_cells(notebook):
    """The code cells that hold code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def markdown(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def tags(cell):
    return cell.metadata.get("tags", [])


def title(notebook):
    return re.search(r"^# (.+)$", markdown(notebook), re.MULTILINE).group(1).strip()


def summary(notebook):
    """First sentence of the first paragraph under the title, without markup."""
    paragraphs = re.split(r"\n\s*\n", markdown(notebook))
    text = next(block for block in paragraphs if not re.match(r"\s*(#|\[!|!\[|<|\||>|-|\*)", block))
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)|[*`]", r"\1", " ".join(text.split()))
    return re.match(r".*?[.!?](?=\s|$)|.*", plain).group(0)


def links(text):
    """Targets of the links and pictures in Markdown, without anchors and addresses of the web."""
    targets = re.findall(r"\]\(([^)\s]+)\)|(?:href|src)=\"([^\"]+)\"", text)
    plain = ((inline or html).partition("#")[0] for inline, html in targets)
    return [target for target in plain if target and "://" not in target and not target.startswith("mailto:")]


def pictures(cell):
    """`(mime type, bytes)` of every picture among the outputs of a code cell, those inside HTML included."""
    found = []
    for output in cell.get("outputs", []):
        for mime, content in output.get("data", {}).items():
            if mime.startswith("image/") and mime != "image/svg+xml":
                found.append((mime, base64.b64decode(content)))
            elif mime == "text/html":
                inline = re.findall(r"data:(image/[\w+]+);base64,([A-Za-z0-9+/=\s]+)", content)
                found += [(mime, base64.b64decode(text)) for mime, text in inline]
    return found


def texts(cell):
    """The text outputs of a code cell that regression runs can compare; the name of a figure object is not one."""
    found = []
    for output in cell.get("outputs", []):
        text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
        if text.strip() and not text.startswith(("<Figure", "<IPython.core.display")):
            found.append(text)
    return found


def exercise(cell):
    """Number of the exercise that a cell leaves to the reader, or None."""
    found = re.search(r'^check\("([\w.]+)", \.\.\.\)$', cell.source, re.MULTILINE)
    return found and found.group(1)


def prediction(cell):
    """Number of the prediction that a cell asks for, or None."""
    found = re.search(r'^predict\("([\w.]+)"\)$', cell.source, re.MULTILINE)
    return found and found.group(1)


def answers_of_predictions(notebook):
    """Each cell with the number of the prediction that it may answer, or None: up to the next heading all do."""
    asked = None
    for cell in notebook.cells:
        is_asking = cell.cell_type == "code" and prediction(cell)
        yield cell, None if is_asking else asked
        if is_asking:
            asked = prediction(cell)
        elif cell.cell_type == "markdown" and HEADING.search(cell.source):
            asked = None


def tree(source):
    """The syntax tree of a code cell; lines that only IPython understands stay on their line."""
    return ast.parse(TransformerManager().transform_cell(source))


def titles(source):
    """The titles of figures in a cell, which state a finding: nodes of its syntax, from the last to the first."""
    found = []
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.keyword) and node.arg in ("title", "suptitle"):
            found.append(node.value)
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "title":
            found.append(node.value)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "suptitle":
            found += node.args[:1]
    texts = [node for node in found if isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", 0), str)]
    return sorted(texts, key=lambda node: (node.lineno, node.col_offset), reverse=True)


def is_solution(cell):
    return "solution" in tags(cell)


def is_compared(cell):
    """Whether the regression run compares what this cell prints."""
    names = {name.lower().replace("_", "-") for name in [*tags(cell), *re.findall(r"#\s*(NBVAL_\w+)", cell.source)]}
    return not names & {"nbval-ignore-output", "nbval-skip"}


def thumbnail_source(notebook):
    """Bytes of the picture that stands for the notebook: the first of a cell tagged `thumbnail`, else the first."""
    cells = code_cells(notebook)
    tagged = [cell for cell in cells if "thumbnail" in tags(cell)]
    found = [content for cell in [*tagged, *cells] for _, content in pictures(cell)]
    return found[0] if found else None


def thumbnail_crop(notebook):
    """(left, top, right, bottom) in hundredths, from a tag such as `crop-34-10-66-90` beside `thumbnail`; or None."""
    tagged = [tag for cell in code_cells(notebook) for tag in tags(cell) if re.fullmatch(r"crop(-\d+){4}", tag)]
    return tuple(map(int, tagged[0].split("-")[1:])) if tagged else None


def film(notebook):
    """Bytes of the animation in the cell tagged `film`, or None."""
    cells = [cell for cell in code_cells(notebook) if "film" in tags(cell)]
    return next((content for cell in cells for mime, content in pictures(cell) if mime == "image/gif"), None)

"""The rules that every notebook keeps. Each takes a notebook and its path and returns what is wrong, in words."""

import re

import nbformat

from tests.tools import notebook as nb

LONGEST_CELL = 20  # lines
LONGEST_TEXT = 120  # words
LARGEST_FILE = 4_000_000  # bytes
LARGEST_FILM, LARGEST_PICTURE = 1_000_000, 150_000  # bytes
HEROES, LARGEST_HERO = 2, 450_000  # so many pictures of a notebook may be larger
FEWEST_COMPARED = 5  # code cells with text that a regression run compares
FEWEST_EXERCISES = 3
FEWEST_PREDICTIONS = 1
JET = re.compile(r"""["']jet["']|\bcm\.jet\b|\.jet\(|COLORMAP_JET""")


def _name(cell):
    first = cell.source.strip().splitlines()[0] if cell.source.strip() else ""
    return f"cell {first[:60]!r}"


def is_valid(notebook, path):
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        return [f"not a valid notebook: {error.message[:200]}"]
    return []


def is_executed_in_order(notebook, path):
    cells = nb.code_cells(notebook)
    return [
        f"{_name(cell)} has execution count {cell.execution_count} where {place} is expected"
        for place, cell in enumerate(cells, 1)
        if cell.execution_count != place
    ]


def has_outputs(notebook, path):
    return [] if any(cell.outputs for cell in nb.code_cells(notebook)) else ["no cell has an output"]


def has_no_errors(notebook, path):
    problems = []
    for cell in nb.code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "error":
                problems.append(f"{_name(cell)} ended in {output.ename}: {output.evalue[:200]}")
            if output.output_type == "stream" and output.name == "stderr":
                problems.append(f"{_name(cell)} wrote to stderr: {output.text[:200]!r}")
    return problems


def is_small(notebook, path):
    size = path.stat().st_size
    return [f"{size / 1e6:.1f} MB, at most {LARGEST_FILE / 1e6:.0f} MB"] if size >= LARGEST_FILE else []


def has_small_pictures(notebook, path):
    problems, heroes = [], 0
    for cell in nb.code_cells(notebook):
        for mime, content in nb.pictures(cell):
            limit = LARGEST_FILM if mime == "image/gif" else LARGEST_PICTURE
            if mime != "image/gif" and heroes < HEROES and len(content) > limit:
                heroes, limit = heroes + 1, LARGEST_HERO
            if len(content) > limit:
                problems.append(f"{_name(cell)}: {mime} of {len(content) // 1000} kB, at most {limit // 1000} kB")
    return problems


def has_short_cells(notebook, path):
    lengths = [(len(cell.source.strip().splitlines()), cell) for cell in nb.code_cells(notebook)]
    return [f"{_name(cell)} has {n} lines, at most {LONGEST_CELL}" for n, cell in lengths if n > LONGEST_CELL]


def has_short_texts(notebook, path):
    """One idea in each text cell; the rows of a table are not counted."""
    problems = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            words = sum(len(line.split()) for line in cell.source.splitlines() if not line.startswith("|"))
            if words > LONGEST_TEXT:
                problems.append(f"{_name(cell)} has {words} words, at most {LONGEST_TEXT}")
    return problems


def tells_numbers(notebook, path):
    """A reader is told by how much, not that a test has passed."""
    printed = [(cell, text) for cell in nb.code_cells(notebook) for text in nb.texts(cell)]
    return [f"{_name(cell)} prints True or False" for cell, text in printed if re.search(r"\b(True|False)\b", text)]


def has_even_colours(notebook, path):
    return [f"{_name(cell)} uses jet" for cell in nb.code_cells(notebook) if JET.search(cell.source)]


def has_compared_numbers(notebook, path):
    printing = [cell for cell in nb.code_cells(notebook) if nb.texts(cell) and nb.is_compared(cell)]
    compared = [cell for cell in printing if not (nb.exercise(cell) or nb.prediction(cell) or nb.is_solution(cell))]
    if len(compared) < FEWEST_COMPARED:
        return [f"{len(compared)} code cells with compared text, at least {FEWEST_COMPARED}"]
    return []


def has_exercises(notebook, path):
    """Enough of them, each with a folded solution that came out right."""
    cells, problems = nb.code_cells(notebook), []
    asked = [nb.exercise(cell) for cell in cells if nb.exercise(cell)]
    predictions = [nb.prediction(cell) for cell in cells if nb.prediction(cell)]
    if len(asked) < FEWEST_EXERCISES:
        problems.append(f"{len(asked)} exercises, at least {FEWEST_EXERCISES}")
    if len(predictions) < FEWEST_PREDICTIONS:
        problems.append(f"{len(predictions)} predictions, at least {FEWEST_PREDICTIONS}")
    solutions = [cell for cell in cells if nb.is_solution(cell)]
    said = "\n".join(text for cell in solutions for text in nb.texts(cell))
    problems += [f"no solution of exercise {id} came out right" for id in asked if f"{id}: Right." not in said]
    for cell in solutions:
        if not nb.FOLDED.items() <= cell.metadata.items() or not cell.source.startswith(f"{nb.FOLD}\n"):
            problems.append(f"{_name(cell)} is not folded: it starts with {nb.FOLD!r}, its metadata are {nb.FOLDED}")
    return problems


def has_badge(notebook, path):
    there = notebook.cells and nb.badge(path.stem) in notebook.cells[0].source
    return [] if there else [f"the first cell lacks the badge {nb.badge(path.stem)}"]


def has_bootstrap(notebook, path):
    cells = nb.code_cells(notebook)
    if not cells or cells[0].source != nb.bootstrap():
        return ["the first code cell is not the bootstrap cell; `make publish` writes it"]
    return []


def has_no_dead_links(notebook, path):
    targets = nb.links(nb.markdown(notebook))
    return [f"link to {target}, which is not there" for target in targets if not (path.parent / target).exists()]


RULES = [
    is_valid,
    is_executed_in_order,
    has_outputs,
    has_no_errors,
    is_small,
    has_small_pictures,
    has_short_cells,
    has_short_texts,
    tells_numbers,
    has_even_colours,
    has_compared_numbers,
    has_exercises,
    has_badge,
    has_bootstrap,
    has_no_dead_links,
]


# A page without words on it, which no reader opens by itself, and that is nothing before a kernel runs.
NOT_FOR_THE_APP = {has_outputs, has_compared_numbers, has_exercises, has_badge, has_bootstrap}


def rules(path):
    """Those that the notebook at `path` keeps."""
    return [rule for rule in RULES if path.name != nb.APP.name or rule not in NOT_FOR_THE_APP]


def problems(notebook, path):
    """All that is wrong with the notebook stored at `path`."""
    return [problem for rule in rules(path) for problem in rule(notebook, path)]


def reachable(start, notebooks):
    """Those of `notebooks` (name of file → Markdown) that can be reached by links from the text `start`."""
    found, queue = set(), [start]
    while queue:
        names = {target.rpartition("/")[2] for target in nb.links(queue.pop())}
        new = names & notebooks.keys() - found
        found |= new
        queue += [notebooks[name] for name in new]
    return found

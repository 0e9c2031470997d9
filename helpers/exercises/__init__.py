"""Exercises that the notebooks check themselves, and predictions: `check("00.1", "koala")`, `predict("00.P1")`.

No answer is stored. Each exercise and each prediction computes its own from the networks and photographs, when it is
first asked. The questions of each notebook are in a module of their own, which is imported then.
"""

import html
import re
import textwrap
from collections import Counter
from importlib import import_module
from pkgutil import iter_modules

import ipywidgets as widgets
from IPython import get_ipython
from IPython.display import display

from .. import checks
from .kinds import plain

LETTERS = "ABCDEFGH"
TEXT_WIDTH = 88  # characters
_wrong_answers = Counter()


def check(id, answer=None):
    """Print whether `answer` to the exercise `id` is right, and a hint if it is not: the first, then the next.

    Without an answer (None or `...`) it says where that goes. A wrong answer never raises, an unknown `id` does:
    `ValueError`. In a cell that begins with the comment *Solution* it says that it is the solution.
    """
    exercise = question(id)
    if answer is None or answer is ...:
        print(f"{id}: put your answer in place of the dots. The solution, if this copy has one, is folded below.")
        return
    print(f"{id}: computing …", end="\r", flush=True)  # for those that take seconds; the next line is written over it
    try:
        right = exercise.accept(plain(answer))
    except TypeError as error:
        print(f"{id}: Not yet. {error}")
        return
    if right:
        del _wrong_answers[id]
        cell = getattr(get_ipython(), "parent_header", {}).get("content", {}).get("code", "")  # nbval keeps no history
        print(f"{'Solution of ' if cell.startswith('# Solution') else ''}{id}: Right. {exercise.because}")
    else:
        hint = exercise.hints[min(_wrong_answers[id], len(exercise.hints) - 1)]
        _wrong_answers[id] += 1
        print(f"{id}: Not yet. Hint: {hint}")


def predict(id, choice=None):
    """Ask what will happen in the next cell, and tell it only after a choice.

    Shows a question, its options, and a button for each. What happens is computed after the click, and there is no
    second click. Where no kernel runs, question and options stay as text. `choice`, the letter of an option, stands
    for the click where there are no buttons, and prints what happens. `ValueError` for another `id` or letter.
    """
    prediction = question(id, "prediction")
    letters = LETTERS[: len(prediction.options)]
    if choice is None:
        display(Prompt(id, prediction))  # outside of a notebook this prints the text
    elif choice in tuple(letters):
        print(textwrap.fill(_what_happens(prediction, letters.index(choice)), TEXT_WIDTH))
    else:
        raise ValueError(f"{id} has no option {choice!r}; there are {', '.join(letters)}.")


def questions(number):
    """All exercises and predictions of a notebook, by id: `questions("01")`."""
    return import_module(f".notebook_{number}", __name__).QUESTIONS


def question(id, kind="exercise"):
    """The `Exercise` with this id, or of the other `kind` the `Prediction`. Raises `ValueError` for an unknown id."""
    numbers = [module.name[-2:] for module in iter_modules(__path__) if module.name.startswith("notebook_")]
    number = checks.choose(str(id)[:2], numbers, "notebook", f"Of {kind} {id!r} the first two digits name it.")
    asked = {name: each for name, each in questions(number).items() if (".P" in name) == (kind == "prediction")}
    return asked[checks.choose(id, asked, kind)]


def _what_happens(prediction, chosen):
    happens, numbers = prediction.outcome()
    first = f"{LETTERS[chosen]} is what happens."
    if chosen != happens:
        first = f"You expect {LETTERS[chosen]}; what happens is {LETTERS[happens]} ({prediction.options[happens]})."
    return f"{first} {numbers} Now run the next cell, and explain why."


class Prompt(widgets.VBox):
    """The question of a prediction, its options, a button for each, and what happens, after a click on one of them."""

    def __init__(self, id, prediction):
        self.id, self.prediction = id, prediction
        self.letters = LETTERS[: len(prediction.options)]
        items = "".join(f"<li>{marked_up(option)}</li>" for option in prediction.options)
        listed = f'<ol style="list-style: upper-alpha; margin: 4px 0; padding-left: 2em">{items}</ol>'
        asked = widgets.HTML(_roomy(f"<b>{id}</b>&ensp;{marked_up(prediction.question)}{listed}"))
        style = {"description_width": "initial", "button_width": "3.5em"}
        options = {"options": list(self.letters), "tooltips": list(prediction.options), "value": None}
        self.buttons = widgets.ToggleButtons(description="My prediction", style=style, **options)
        self.happens = widgets.HTML()
        self._tell("What happens is shown after the choice.")
        self.buttons.observe(self._choose, "value")
        super().__init__([asked, self.buttons, self.happens])

    def _choose(self, change):
        self.buttons.disabled = True
        self._tell("computing …")
        try:
            words = _what_happens(self.prediction, self.letters.index(change.new))
        except Exception as error:  # in a callback it would end in a log that nobody sees
            words = f"This could not be computed ({error}). The next cell shows what happens."
        self._tell(words, "border-left: 4px solid #0b57a4; padding-left: 8px")

    def _tell(self, words, style=""):
        """Screen readers announce it, as a status."""
        self.happens.value = _roomy(f'<div role="status" style="{style}">{marked_up(words)}</div>')

    def __repr__(self):
        """Question and options as text, for pages without a kernel."""
        lines = [textwrap.fill(f"{self.id}  {self.prediction.question}", TEXT_WIDTH)]
        for letter, option in zip(self.letters, self.prediction.options, strict=True):
            lines.append(textwrap.fill(f"   {letter}  {option}", TEXT_WIDTH, subsequent_indent="      "))
        return "\n".join([*lines, "Choose one before you look at the next cell."])

    _ipython_display_ = None  # ipywidgets 7 would use it in place of the following

    def _repr_mimebundle_(self, **options):
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {"application/vnd.jupyter.widget-view+json": view, "text/plain": repr(self)}


def marked_up(text):
    """Text as HTML; what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _roomy(content):
    """HTML with room between the lines, of which widgets leave none."""
    return f'<div style="line-height: 1.5; max-width: 48em; white-space: normal">{content}</div>'

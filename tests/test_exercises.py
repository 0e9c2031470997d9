"""The exercises: right answers are recognised by computing them, wrong ones get hints, nothing raises by accident.

And the predictions: what happens is computed after the choice, and nothing gives it away before.
"""

import re
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from helpers import exercises, images, models
from helpers.exercises.kinds import Exercise, Prediction, number, numbers_in_order, word
from tests.tools import notebook as nb

ALL = {id: each for path in nb.paths() for id, each in exercises.questions(path.stem[:2]).items()}
EXERCISES = {id: each for id, each in ALL.items() if isinstance(each, Exercise)}
PREDICTIONS = {id: each for id, each in ALL.items() if isinstance(each, Prediction)}


@pytest.fixture
def listed(monkeypatch):
    """A small list of exercises in place of the real one."""
    asked = []

    def compute():
        asked.append(1)
        return 0.25

    entries = {
        "01.1": Exercise("first hint", "second hint", accept=number(compute), because="It is a quarter."),
        "01.2": Exercise("think", accept=word(lambda: "Giant Panda"), because=""),
        "01.4": Exercise("think", accept=numbers_in_order(lambda: [1 / 3, 2], absolute=0.01), because=""),
        "01.5": Exercise("think", accept=number(lambda: 64 / 3, relative=0.01), because=""),
    }
    module = types.SimpleNamespace(QUESTIONS=entries)
    monkeypatch.setattr(exercises, "import_module", lambda *name: module)
    monkeypatch.setattr(exercises, "_wrong_answers", exercises.Counter())
    return asked


def said(capsys, *arguments):
    exercises.check(*arguments)
    return re.sub(r".*\r", "", capsys.readouterr().out)  # as a page shows it


@pytest.mark.parametrize("answer", [(), (None,), (...,)])
def test_without_an_answer_it_says_where_one_goes_and_computes_nothing(listed, capsys, answer):
    told = said(capsys, "01.1", *answer)
    assert told.startswith("01.1: put your answer in place of the dots. The solution") and told.count("\n") == 1
    assert "Right" not in told and not listed


@pytest.mark.parametrize(
    ("first", "told"),
    [("# Solution", "Solution of 01.1: Right. It is a quarter.\n"), ("# mine", "01.1: Right. It is a quarter.\n")],
)
def test_a_solution_says_that_it_is_one(listed, capsys, monkeypatch, first, told):
    message = {"content": {"code": f"{first}\ncheck('01.1', 0.25)"}}  # what a notebook has sent
    monkeypatch.setattr(exercises, "get_ipython", lambda: types.SimpleNamespace(parent_header=message))
    assert said(capsys, "01.1", 0.25) == told


def test_while_it_computes_a_line_is_there(listed, capsys):
    exercises.check("01.1", 0.25)
    assert capsys.readouterr().out.startswith("01.1: computing …\r01.1: Right.")


@pytest.mark.parametrize(
    "answer",
    [0.25, 0.2501, np.float32(0.25), np.array(0.25), np.array([0.25]), tf.constant(0.25), tf.Variable([0.25])],
)
def test_right_number(listed, capsys, answer):
    assert said(capsys, "01.1", answer) == "01.1: Right. It is a quarter.\n"


def test_answer_is_computed_once(listed, capsys):
    for answer in (1, 2, 0.25):
        said(capsys, "01.1", answer)
    assert len(listed) == 1


def test_hints_come_one_after_the_other_and_begin_again_after_the_right_answer(listed, capsys):
    hints = [said(capsys, "01.1", wrong) for wrong in (0.3, 5, float("nan"))]
    assert hints[0] == "01.1: Not yet. Hint: first hint\n"
    assert hints[1:] == ["01.1: Not yet. Hint: second hint\n"] * 2
    assert "Right" in said(capsys, "01.1", 0.25)
    assert "first hint" in said(capsys, "01.1", 0.3)


@pytest.mark.parametrize("answer", ["giant panda", "GIANT_PANDA ", "Giant  Panda"])
def test_right_word(listed, capsys, answer):
    assert "Right" in said(capsys, "01.2", answer)


@pytest.mark.parametrize(
    ("id", "answer", "kind"),
    [
        ("01.1", "0.25", "a str"),
        ("01.1", [0.25, 1], "a list"),
        ("01.1", np.zeros((2, 3)), "an array of shape (2, 3)"),
        ("01.1", True, "a bool"),
        ("01.2", 3, "an int"),
        ("01.4", ["one", 2], "a list"),
        ("01.1", tf.constant([0.25, 1]), "an array of shape (2,)"),
    ],
)
def test_wrong_kind_of_answer_is_explained_and_costs_no_hint(listed, capsys, id, answer, kind):
    out = said(capsys, id, answer)
    assert out.startswith(f"{id}: Not yet. The answer is a ")
    assert kind in out
    assert not exercises._wrong_answers


@pytest.mark.parametrize(
    ("id", "answer"), [("01.5", 21), ("01.5", np.int64(21)), ("01.4", [0.3, 2]), ("01.4", tf.constant([0.3, 2.0]))]
)
def test_an_answer_to_one_digit_fewer_is_close_and_costs_no_hint(listed, capsys, id, answer):
    assert said(capsys, id, answer) == f"{id}: Not yet. Close: give one more decimal.\n"
    assert not exercises._wrong_answers


@pytest.mark.parametrize(("id", "answer"), [("01.5", 20), ("01.5", 0), ("01.4", [0, 2]), ("01.4", [2, 1 / 3])])
def test_a_wrong_answer_is_not_close(listed, capsys, id, answer):
    assert "Hint" in said(capsys, id, answer)


@pytest.mark.parametrize("answer", [10**400, -(10**400), float("inf"), float("nan")])
def test_no_number_is_too_large(listed, capsys, answer):
    assert "Hint" in said(capsys, "01.1", answer)
    assert "Hint" in said(capsys, "01.4", [answer, 2])


@pytest.mark.parametrize("answer", [np.broadcast_to(0.25, 10**9), range(10**9), [np.broadcast_to(1, 10**9)]])
@pytest.mark.parametrize("id", ["01.1", "01.4"])
def test_a_huge_answer_is_refused_before_it_is_converted(listed, capsys, id, answer):
    assert "The answer is not that large" in said(capsys, id, answer) and not listed


def test_a_tensor_without_a_value_is_refused(listed, capsys):
    import keras

    assert "without one" in said(capsys, "01.1", keras.Input((2,)))


@pytest.mark.parametrize(("id", "says"), [("01.7", "exercise '01.7'. Nearest: '01."), ("99.1", "two digits"), (3, "3")])
def test_unknown_exercise_names_the_nearest(listed, id, says):
    with pytest.raises(ValueError, match=says):
        exercises.check(id, 1)


def test_only_the_questions_of_the_notebook_that_asks_are_imported():
    code = """
import sys
import tensorflow  # which brings along what it finds
before = set(sys.modules)
from helpers.exercises import check, predict
new = sys.modules.keys() - before
print([name for name in new if name.startswith(("sklearn", "skimage", "cv2", "helpers.exercises.notebook"))])
check("00.1", ...)
print(*[name for name in sys.modules if name.startswith("helpers.exercises.notebook")])
"""
    printed = subprocess.run([sys.executable, "-c", code], cwd=nb.ROOT, capture_output=True, text=True, check=True)
    first, _, last = printed.stdout.splitlines()
    assert (first, last) == ("[]", "helpers.exercises.notebook_00")


@pytest.mark.parametrize("id", EXERCISES)
def test_every_exercise_has_a_place_hints_and_a_reason(id):
    exercise = EXERCISES[id]
    assert exercise.hints
    assert exercise.because
    assert re.fullmatch(r"\d\d\.\d", id)


def test_the_answers_to_00(capsys):
    network = models.load("efficientnet_lite0")

    def answers(name):
        return models.decode(network(images.batch(images.sample(name))))[0]

    assert "Right" in said(capsys, "00.1", answers("koala")[0][1])
    assert "Hint" in said(capsys, "00.1", answers("panda")[0][1])
    first, second = answers("narwhal")[:2]
    assert "Right" in said(capsys, "00.2", first[2] - second[2])
    assert "Hint" in said(capsys, "00.2", first[2])


def mask_of_a_corner():
    mask = np.zeros((224, 224), bool)
    mask[:50, :50] = True
    return mask


# What somebody would answer who made a usual mistake. Every exercise has some.
PLAUSIBLE_BUT_WRONG = {
    "00.1": ["panda", "bear", "Koala bear"],
    "00.2": [0.62, 62, -0.5],
    "00.3": ["narwhal", "ox", "giraffe", "koala"],
    "01.1": [64, 224 * 224 * 64, 1 / 21.333],
    "01.2": [35, 5, 66, 68],
    "01.3": ["chameleon", "komodo_dragon", "koala"],
    "01.4": ["block1_conv1", "block5_conv4", "block3_pool"],
    "02.1": [[3, 3, 3, 3], [0.75] * 4, [3, 0, 0, 0], [0, 3, 1, 2]],
    "02.2": [[2, 0, 4], [2, 0, 4, 0, -1, 4, 2, 0, 4], [0, -1, 4, 2, 0, 4, 0, 0, 4]],
    "02.3": [0, -0.08, 0.5, 0.9],
    "02.4": [[images.batch(images.sample("panda"), size=128)[0]] * 8],
    "03.1": ["tabby", "Egyptian cat", "dog", "hair slide"],
    "03.2": [[1, 1, 0.5, 0.5], [0, 0, 1, 1], [0.5, 0.5, 0, 0], [0.5, 0.5, 0.5, 0.5]],
    "03.3": [[0.8, 0.8], [0, 0], [0.8, 0], [0, 0.4]],
    "03.4": [mask_of_a_corner(), np.zeros((224, 224), bool), np.ones((224, 224), bool)],
    "03.5": [[1, 1], [0.25, 1], [1, 1 / 9], [1 / 9, 1 / 9]],
    "04.1": [[1, 2, 1], [0, 0, 2], [0, 0, 0], [1, 0, 0]],
    "04.2": [0, 10.07, -4.9],
    "04.3": [0.07, 0.62, 0.32, 0.345],
    "04.4": [8.3, -8.3, 3.3, 0],
    "05.1": [0.82, 0.98, 0.5, 0.07],
    "05.2": [np.zeros((4, 4)), np.ones((4, 4)), -np.ones((4, 4)), np.eye(4)],
    "05.3": [0.82, 0.5, 0.98, 0.18],
    "05.4": [1, 0, 0.1, 10.0],
    "06.1": [[0, 3, 2, 1], [6, -3, 3, 0], [8, 0, 0, 8], [2, 6, 0, 3]],
    "06.2": [[2, -1], [0.5, 0.5], [0, 0], [1, 0]],
    "06.3": [[0, 0], [6, 6], [100, 3], [3, 100]],
    "06.4": [0.89, 0, 0.5, 1.13],
    "07.1": [99, 7, 28, 10],
    "07.2": [0.94, 0.93, 63, 0.37],
    "07.3": ["koala", "coffee", "lemur"],
    "08.1": [16, 5, 10, 64],
    "08.2": [np.ones(16, int), np.zeros(16, int), np.tile([0, 1], 8), np.tile([1, 0], 4)],
    "08.3": [0.5, 0.16, 0.64, 0.68],
    "08.4": [0.25, 1, 2, 16],
}


@pytest.mark.slow
@pytest.mark.parametrize("id", EXERCISES)
def test_plausible_wrong_answers_are_refused(id, capsys):
    assert PLAUSIBLE_BUT_WRONG[id]
    for answer in PLAUSIBLE_BUT_WRONG[id]:
        assert said(capsys, id, answer).startswith(f"{id}: Not yet."), answer


# Predictions.


@pytest.fixture
def foretold(monkeypatch):
    """One prediction in place of the real ones; what it computes is written into the list."""
    computed = []

    def outcome():
        computed.append(1)
        return 1, "It is 7 < 8."

    entry = Prediction("What will it be?", ("less", "a number & more", "nothing"), outcome)
    module = types.SimpleNamespace(QUESTIONS={"01.P1": entry})
    monkeypatch.setattr(exercises, "import_module", lambda *name: module)
    return computed


@pytest.fixture
def prompt(foretold):
    return exercises.Prompt("01.P1", exercises.question("01.P1", "prediction"))


def test_without_a_notebook_question_and_options_are_printed(foretold, capsys):
    exercises.predict("01.P1")
    printed = capsys.readouterr().out
    assert printed.splitlines()[:4] == [
        "01.P1  What will it be?",
        "   A  less",
        "   B  a number & more",
        "   C  nothing",
    ]
    assert not foretold


def test_in_a_notebook_there_are_a_widget_and_the_same_text(foretold, prompt):
    from IPython.core.formatters import DisplayFormatter

    bundle, _ = DisplayFormatter().format(prompt)
    assert set(bundle) == {"text/plain", "application/vnd.jupyter.widget-view+json"}
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == prompt.model_id
    assert "   C  nothing\n" in bundle["text/plain"]
    assert not foretold


def test_buttons_show_nothing_before_the_choice(foretold, prompt):
    asked = prompt.children[0].value
    assert "What will it be?" in asked
    assert "<li>a number &amp; more</li>" in asked
    assert prompt.buttons.options == ("A", "B", "C")
    assert prompt.buttons.value is None
    assert prompt.buttons.description
    assert "7 &lt; 8" not in prompt.happens.value
    assert not foretold


@pytest.mark.parametrize(
    ("letter", "says"),
    [
        ("B", "B is what happens. It is 7 &lt; 8."),
        ("C", "You expect C; what happens is B (a number &amp; more). It is 7"),
    ],
)
def test_after_the_choice_the_outcome_is_computed_and_shown(foretold, prompt, letter, says):
    states = []
    prompt.happens.observe(lambda change: states.append(change.new), "value")
    prompt.buttons.value = letter
    assert len(foretold) == 1
    assert prompt.buttons.disabled
    assert "computing" in states[0]
    assert says in states[1]
    assert "run the next cell" in states[1]
    assert "wrong" not in states[1].lower()


def test_outcome_that_cannot_be_computed_is_told():
    def fails():
        raise OSError("no such file")

    prompt = exercises.Prompt("01.P1", Prediction("Why?", ("A thing", "Another"), fails))
    prompt.buttons.value = "A"
    assert "no such file" in prompt.happens.value


def test_a_letter_stands_for_the_click(foretold, capsys):
    exercises.predict("01.P1", "A")
    assert "You expect A; what happens is B (a number & more). It is 7 < 8." in capsys.readouterr().out


@pytest.mark.parametrize(("id", "choice", "says"), [("01.P7", None, "Nearest: '01.P1'"), ("01.P1", "D", "A, B, C")])
def test_unknown_prediction_and_unknown_letter(foretold, id, choice, says):
    with pytest.raises(ValueError, match=says):
        exercises.predict(id, choice)
    assert not foretold


# The letters of what happens with the bundled networks. A change here changes what a lesson is about.
HAPPENS = {
    "00": "CA",
    "01": "ACB",
    "02": "ACC",
    "03": "CAAAC",
    "04": "BAC",
    "05": "ABCC",
    "06": "CAC",
    "07": "AAC",
    "08": "BCB",
}


@pytest.mark.slow
@pytest.mark.parametrize("id", PREDICTIONS)
def test_every_prediction_comes_out_as_the_notebook_tells(id):
    prediction = PREDICTIONS[id]
    assert re.fullmatch(r"\d\d\.P\d", id)
    assert 2 < len(set(prediction.options)) <= len(exercises.LETTERS)
    place, numbers = prediction.outcome()
    assert exercises.LETTERS[place] == HAPPENS[id[:2]][int(id[4:]) - 1]
    assert re.search(r"\d", numbers)
    assert numbers.endswith(".")


@pytest.mark.parametrize("path", nb.paths(), ids=lambda path: path.stem)
def test_notebook_asks_what_is_registered_for_it(path):
    cells = nb.code_cells(nb.read(path))
    registered = exercises.questions(path.stem[:2])
    assert sorted(filter(None, [*map(nb.exercise, cells), *map(nb.prediction, cells)])) == sorted(registered)

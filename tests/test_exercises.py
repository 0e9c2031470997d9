"""The exercises: right answers are recognised by computing them, wrong ones get hints, nothing raises by accident."""

import numpy as np
import pytest

from helpers import exercises, images, models
from helpers.exercises import Exercise, number, word, words


@pytest.fixture
def listed(monkeypatch):
    """A small list of exercises in place of the real one."""
    asked = []

    def compute():
        asked.append(1)
        return 0.25

    entries = {
        "01.1": Exercise(("first hint", "second hint"), number(compute), because="It is a quarter."),
        "01.2": Exercise(("think",), word(lambda: "Giant Panda")),
        "01.3": Exercise(("think",), words(lambda: ["stem", "head"])),
    }
    monkeypatch.setattr(exercises, "EXERCISES", entries)
    monkeypatch.setattr(exercises, "_wrong_answers", exercises.Counter())
    return asked


def said(capsys, *arguments):
    exercises.check(*arguments)
    return capsys.readouterr().out


@pytest.mark.parametrize("answer", [(), (None,), (...,)])
def test_without_an_answer_it_says_so_and_computes_nothing(listed, capsys, answer):
    assert said(capsys, "01.1", *answer) == "01.1: not answered yet.\n"
    assert not listed


@pytest.mark.parametrize("answer", [0.25, 0.2501, np.float32(0.25), np.array(0.25), np.array([0.25])])
def test_right_number(listed, capsys, answer):
    assert said(capsys, "01.1", answer) == "01.1: Right. It is a quarter.\n"


def test_hints_come_one_after_the_other_and_begin_again_after_the_right_answer(listed, capsys):
    hints = [said(capsys, "01.1", wrong) for wrong in (0.3, 5, float("nan"))]
    assert hints[0] == "01.1: Not yet. Hint: first hint\n"
    assert hints[1:] == ["01.1: Not yet. Hint: second hint\n"] * 2
    assert "Right" in said(capsys, "01.1", 0.25)
    assert "first hint" in said(capsys, "01.1", 0.3)


@pytest.mark.parametrize("answer", ["giant panda", "GIANT_PANDA ", "Giant  Panda"])
def test_right_word(listed, capsys, answer):
    assert "Right" in said(capsys, "01.2", answer)


@pytest.mark.parametrize("answer", [["head", "stem"], ("Stem", "head"), {"stem", "head"}, np.array(["stem", "head"])])
def test_right_words_in_any_order(listed, capsys, answer):
    assert "Right" in said(capsys, "01.3", answer)


@pytest.mark.parametrize("answer", [["stem"], ["stem", "stem"], ["stem", "head", "pool"]])
def test_wrong_words(listed, capsys, answer):
    assert "Hint: think" in said(capsys, "01.3", answer)


@pytest.mark.parametrize(
    ("id", "answer", "kind"),
    [
        ("01.1", "0.25", "a str"),
        ("01.1", [0.25, 1], "a list"),
        ("01.1", np.zeros((2, 3)), "an array of shape (2, 3)"),
        ("01.1", True, "a bool"),
        ("01.2", 3, "an int"),
        ("01.3", "stem", "a str"),
        ("01.3", 7, "an int"),
        ("01.3", [1, 2], "a list"),
    ],
)
def test_wrong_kind_of_answer_is_explained_and_costs_no_hint(listed, capsys, id, answer, kind):
    out = said(capsys, id, answer)
    assert out.startswith(f"{id}: Not yet. The answer is a ")
    assert kind in out
    assert not exercises._wrong_answers


def test_unknown_exercise_names_the_nearest(listed):
    with pytest.raises(ValueError, match=r"no exercise '01.4'; the nearest are 01\."):
        exercises.check("01.4", 1)


@pytest.mark.parametrize("id", exercises.EXERCISES)
def test_every_exercise_has_a_place_hints_and_a_reason(id):
    exercise = exercises.EXERCISES[id]
    assert exercise.hints
    assert exercise.because
    notebook, _, place = id.partition(".")
    assert len(notebook) == 2
    assert place.isdigit()


def test_the_answers_to_00(capsys):
    network = models.load("efficientnet_lite0")

    def answers(name):
        return models.decode(network(images.batch(images.sample(name))))[0]

    assert "Right" in said(capsys, "00.1", answers("koala")[0][1])
    assert "Hint" in said(capsys, "00.1", answers("panda")[0][1])
    first, second = answers("narwhal")[:2]
    assert "Right" in said(capsys, "00.2", first[2] - second[2])
    assert "Hint" in said(capsys, "00.2", first[2])

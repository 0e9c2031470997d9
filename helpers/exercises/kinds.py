"""What an exercise and a prediction are made of, and how answers are recognised."""

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from .. import checks

LARGEST = 10_000_000  # numbers in an answer: more would take long to convert, or kill the kernel


class Exercise:
    """One question of a notebook, with hints to give one by one, and the reason to give after the right answer.

    accept: answer → whether it is right. A `TypeError` tells what kind of answer is expected, or that it is close.
    """

    def __init__(self, *hints, accept, because):
        self.hints, self.accept, self.because = hints, accept, because


@dataclass(frozen=True)
class Prediction:
    """One question to be answered before a cell is run."""

    question: str
    options: tuple[str, ...]  # what may happen
    outcome: Callable[[], tuple[int, str]]  # the place in `options` of what happens, and a sentence with the numbers


def number(compute, relative=0.01, absolute=1e-9):
    """Accepts the number that `compute()` gives, to a relative or an absolute tolerance."""
    compute = cache(compute)

    def accept(answer):
        if isinstance(answer, np.ndarray | np.generic) and answer.size == 1:
            answer = answer.item()
        if isinstance(answer, bool) or not isinstance(answer, numbers.Real):
            raise TypeError(f"The answer is a number, such as 0.5; this is {kind_of(answer)}.")
        try:
            return _is_near(float(answer), compute(), relative, absolute)
        except OverflowError:  # a whole number of more than 308 digits
            return False

    return accept


def word(compute):
    """Accepts the text that `compute()` gives; capitals, spaces and underscores do not matter."""
    compute = cache(compute)

    def accept(answer):
        if not isinstance(answer, str):
            raise TypeError(f"The answer is a text in quotes, such as 'panda'; this is {kind_of(answer)}.")
        return checks.plain(answer) == checks.plain(compute())

    return accept


def numbers_in_order(compute, absolute=1e-8):
    """Accepts the list of numbers that `compute()` gives, in its order, to an absolute tolerance."""
    compute = cache(compute)

    def accept(answer):
        try:
            given = np.asarray(answer, float).ravel()
        except OverflowError:  # a whole number of more than 308 digits
            return False
        except (TypeError, ValueError):
            raise TypeError(f"The answer is a list of numbers, such as [1, 0, 2]; this is {kind_of(answer)}.") from None
        wanted = np.asarray(compute(), float).ravel()
        return given.shape == wanted.shape and _is_near(given, wanted, 1e-5, absolute)

    return accept


def _is_near(given, wanted, relative, absolute):
    """Whether all numbers are near enough. A `TypeError` if they only lack a decimal."""
    near = partial(np.allclose, b=wanted, rtol=relative, atol=absolute)
    if near(given):
        return True
    for few in range(8):
        rounded = np.round(wanted, few)
        if np.any(rounded) and np.allclose(given, rounded, rtol=1e-6, atol=0) and near(np.round(wanted, few + 1)):
            raise TypeError("Close: give one more decimal.")
    return False


def nearest(value, guesses):
    """The place of the guess that is nearest to a value."""
    return int(np.abs(np.subtract(guesses, value)).argmin())


def plain(answer):
    """An answer as `accept` takes it: a tensor as an array. A `TypeError` for what is far too large to be an answer."""
    if _size(answer) > LARGEST:
        raise TypeError(f"The answer is not that large; this is {kind_of(answer)}, with {_size(answer):,} numbers.")
    if hasattr(answer, "__array__") and not isinstance(answer, np.ndarray | np.generic):
        try:
            return np.asarray(answer)
        except Exception:  # a symbolic tensor has no value
            raise TypeError(f"The answer has a value; this is {kind_of(answer)} without one.") from None
    return answer


def _size(answer):
    if isinstance(answer, list | tuple):
        return sum(map(_size, answer))
    if getattr(answer, "shape", None) is not None:
        return math.prod(length or 1 for length in answer.shape)
    return len(answer) if hasattr(answer, "__len__") else 1


def kind_of(answer):
    """What an answer is, in words: "a str", "an array of shape (2, 3)"."""
    if isinstance(answer, np.ndarray):
        return f"an array of shape {answer.shape}"
    name = type(answer).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"

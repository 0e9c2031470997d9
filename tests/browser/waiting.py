"""Wait for a condition, never for a time."""

import time


def wait_until(page, condition, seconds=30):
    """Ask again and again until `condition()` is true; `AssertionError` with the last answer after some seconds."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, f"not within {seconds} s; the last answer was {answer!r}"
        page.wait_for_timeout(100)  # lets the page go on

"""Long work of an explorer: in this process, and in a kernel that gets the messages a page sends."""

import queue
import threading
import time

import ipywidgets as widgets
import jupyter_client
import pytest

from helpers.explorers import background, frame

SOON = 30  # seconds


class Counter(frame.Explorer):
    """Counts as far as it is let."""

    def __init__(self, total=5, name="counter"):
        self.total, self.count, self.refreshed, self.is_closed = total, 0, 0, False
        self.allowed = threading.Semaphore(0)
        self.reached = queue.Queue()
        self.number = frame.Number("Number", 9, 3)
        self.locked = widgets.Checkbox(description="locked", disabled=True)
        self.counting = background.Background("Count")
        super().__init__(name, [self.number, self.locked, self.counting], [])
        self.listen(self.number)
        self.counting.attach(self, lambda: self.steps())
        self.start()

    def steps(self):
        try:
            for count in range(1, self.total + 1):
                assert self.allowed.acquire(timeout=SOON)
                if count == 4:
                    raise ValueError("four is <too> many")
                self.count = count
                yield count, self.total, f"counted to {count}"
                self.reached.put(count)
        finally:
            self.is_closed = True

    def refresh(self):
        self.refreshed += 1

    def summary(self):
        return str(self.count)


def test_all_steps_are_taken_and_then_everything_is_as_before():
    counter = Counter(total=2)
    counter.counting.begin.click()
    counter.allowed.release(2)
    counter.counting.wait(SOON)
    assert counter.count == 2 and counter.is_closed and counter.refreshed == 2
    assert counter.status.value == counter.problem.value == counter.counting.words.value == ""
    assert counter.counting.stop.disabled and counter.counting.bar.layout.visibility == "hidden"
    assert not counter.number.slider.disabled and not counter.counting.begin.disabled and counter.locked.disabled
    counter.number.value = 5
    assert counter.refreshed == 3


def test_meanwhile_only_stop_works():
    counter = Counter()
    counter.counting.begin.click()
    counter.allowed.release(1)
    assert counter.reached.get(timeout=SOON) == 1
    assert counter.counting.words.value == "counted to 1"
    assert (counter.counting.bar.value, counter.counting.bar.max) == (1, 5)
    assert counter.counting.bar.layout.visibility == "visible" and not counter.counting.stop.disabled
    assert counter.number.slider.disabled and counter.number.field.disabled and counter.counting.begin.disabled
    counter.number.value = 7  # on its way when the controls were disabled
    counter.counting.begin.click()
    assert counter.refreshed == 1
    counter.counting.stop.click()
    counter.allowed.release(4)
    counter.counting.wait(SOON)
    assert counter.count == 2 and counter.is_closed and counter.refreshed == 2  # the step that was going on is finished
    assert "Stopped at 2 of 5." in counter.status.value and counter.problem.value == ""
    assert counter.number.value == counter.number.field.value == 3 and not counter.number.slider.disabled


def test_an_error_is_told_and_it_can_begin_again():
    counter = Counter()
    counter.allowed.release(9)
    counter.counting.begin.click()
    counter.counting.wait(SOON)
    assert "four is &lt;too&gt; many" in counter.problem.value and counter.is_closed and counter.refreshed == 2
    assert not counter.number.slider.disabled and counter.counting.stop.disabled
    counter.total = 3
    counter.counting.begin.click()
    counter.counting.wait(SOON)
    assert counter.problem.value == "" and counter.count == 3


def test_the_same_cell_once_more_stops_the_first_and_no_other():
    first, other = Counter(), Counter(name="other")
    for counter in (first, other):
        counter.counting.begin.click()
    Counter()
    for counter in (first, other):
        counter.allowed.release(9)
        counter.counting.wait(SOON)
    assert first.count == 1 and "Stopped" in first.status.value
    assert other.count == 3


def test_a_long_part_can_be_stopped_within_it():
    counter = Counter()

    def steps():
        yield 1, 2, "the first"
        for count in range(10**9):
            time.sleep(0.01)
            counter.counting.report(f"at {count}")
            if count == 3:
                counter.reached.put(counter.counting.words.value)

    counter.steps = steps
    counter.counting.begin.click()
    assert counter.reached.get(timeout=SOON) == "at 3"
    counter.counting.stop.click()
    counter.counting.wait(SOON)
    assert "Stopped at 1 of 2." in counter.status.value


def test_stopping_is_no_error():
    counter = Counter()

    def steps():
        yield 1, 2, "the first"
        try:
            counter.counting.stop.click()
            counter.counting.report("the second")
        except Exception:  # as somebody would who catches all errors
            counter.count = 99

    counter.steps = steps
    counter.counting.begin.click()
    counter.counting.wait(SOON)
    assert counter.count == 0 and "Stopped at 1 of 2." in counter.status.value


def test_waiting_has_an_end():
    counter = Counter()
    counter.counting.wait(0)  # nothing was begun
    counter.counting.begin.click()
    with pytest.raises(TimeoutError, match="Count"):
        counter.counting.wait(0.01)
    counter.counting.stop.click()
    counter.allowed.release()
    counter.counting.wait(SOON)


CELL = """
import time
from helpers.explorers import background, frame

class Counter(frame.Explorer):
    def __init__(self):
        self.counting = background.Background("Count")
        super().__init__("counter", [self.counting], [])
        self.counting.attach(self, self.steps)
        self.start()

    def steps(self):
        for count in range(1, 1001):
            time.sleep(0.05)
            yield count, 1000, f"counted to {count}"

    def refresh(self):
        pass

    def summary(self):
        return ""

counter = Counter()
print(counter.counting.begin.model_id, counter.counting.stop.model_id, counter.counting.words.model_id,
      counter.status.model_id)
"""


@pytest.fixture
def kernel():
    manager, client = jupyter_client.manager.start_new_kernel(kernel_name="python3")
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_a_kernel_hears_stop_while_it_works(kernel):
    printed = []
    kernel.execute_interactive(CELL, timeout=120, output_hook=lambda message: printed.append(message["content"]))
    begin, stop, words, status = next(content["text"] for content in printed if "text" in content).split()

    def press(button):
        content = {"comm_id": button, "data": {"method": "custom", "content": {"event": "click"}}}
        kernel.shell_channel.send(kernel.session.msg("comm_msg", content))

    def wait_for(model, expected):
        end = time.monotonic() + SOON
        while time.monotonic() < end:
            content = kernel.get_iopub_msg(timeout=SOON)["content"]
            value = content.get("data", {}).get("state", {}).get("value", "")
            if content.get("comm_id") == model and expected in value:
                return
        pytest.fail(f"{expected!r} did not come")

    press(begin)
    wait_for(words, "counted to 3")
    press(stop)
    wait_for(status, "Stopped at")

"""Work of an explorer that takes longer than a step: in a thread, with a bar and a *Stop* button.

The kernel answers one message after the other. Work in a callback would keep it from hearing *Stop*, so it is done in a
thread. Widgets may be changed from there, but nothing can be printed.
"""

import contextlib
import threading

import ipywidgets as widgets

from .frame import WRAPPED, button, parts

_latest = {}  # name of an explorer → the `Background` that was attached last


class Stopped(BaseException):
    """*Stop* was pressed in the middle of a part of the work. No error: whoever catches all errors lets it through."""


class Background(widgets.HBox):
    """A button that begins work (`description`, `icon`), one that stops it, and how far it is.

    While it goes on, all other controls of the explorer are disabled. At the end, whatever it was, the explorer's
    `refresh` is called once and the controls work again. An error is told where the explorer tells its errors.
    """

    def __init__(self, description, icon="play"):
        self.begin = button(description, icon)
        self.stop = widgets.Button(description="Stop", icon="stop", disabled=True)
        self.bar = widgets.IntProgress(layout={"width": "160px", "visibility": "hidden"})
        self.words = widgets.Label()
        self._thread, self._is_stopped = None, threading.Event()
        super().__init__([self.begin, self.stop, self.bar, self.words], layout=WRAPPED)

    def attach(self, explorer, steps):
        """Say what is to be done, once, after `super().__init__` of the explorer that has this among its controls.

        steps: generator function without arguments. Each part of the work, one second at most because *Stop* waits for
            it, ends with `yield done, total, words`, or calls `report` in between. It may show what there is so far.
        """
        if explorer.name in _latest:  # of a cell that is run again
            _latest[explorer.name]._is_stopped.set()
        _latest[explorer.name] = self
        self.begin.on_click(lambda pressed: self._begin(explorer, steps))
        self.stop.on_click(self._ask_to_stop)

    def report(self, words):
        """Say how far a long part of the work is; call it often. After *Stop* it raises `Stopped`: let it through."""
        if self._is_stopped.is_set():
            raise Stopped
        self.words.value = words

    def wait(self, seconds=300):
        """Until the work has ended, or a `TimeoutError`. For programs that press the button; a reader sees it end."""
        if self._thread is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                raise TimeoutError(f"{self.begin.description!r} still goes on after {seconds} seconds.")

    def _begin(self, explorer, steps):
        if explorer._is_working:
            return
        explorer._is_working = True  # from now on, not only from when the thread has begun
        self._is_stopped.clear()
        self._thread = threading.Thread(target=self._run, args=(explorer, steps), daemon=True)
        self._thread.start()

    def _ask_to_stop(self, pressed):
        self._is_stopped.set()
        self.words.value = "Stopping …"

    def _run(self, explorer, steps):
        with explorer.working():
            mine = self.stop, self.bar
            controls = [part for part in parts(explorer) if hasattr(part, "disabled") and part not in mine]
            before = [(part, part.disabled, getattr(part, "value", None)) for part in controls]
            for part in controls:
                part.disabled = True
            self.bar.value, self.bar.max = 0, 1
            self.bar.layout.visibility, self.stop.disabled = "visible", False
            try:
                with contextlib.closing(steps()) as taken:
                    for done, total, words in taken:
                        self.bar.value, self.bar.max, self.bar.value = 0, total, done
                        self.report(words)
            except Stopped:
                explorer.say(f"Stopped at {self.bar.value} of {self.bar.max}.")
            finally:
                self.stop.disabled, self.bar.layout.visibility, self.words.value = True, "hidden", ""
                _restore(before)
                explorer.refresh()


def _restore(before):
    """Bring controls back to `(control, disabled, value)`: a reader may have moved one just before it was disabled."""
    for control, disabled, value in before:
        control.disabled = disabled
        if not isinstance(control, (widgets.Button, widgets.FileUpload)) and control.value != value:
            control.value = value

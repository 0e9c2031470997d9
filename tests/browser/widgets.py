"""What one does with ipywidgets, in JupyterLab and in Voilà alike: by keyboard, and with the labels that are seen."""

import base64
import io
import re

import numpy as np
from PIL import Image, UnidentifiedImageError
from playwright.sync_api import Error, expect

from tests.browser.waiting import wait_until

CONTENT = """async img => {
    const bytes = new Uint8Array(await (await fetch(img.src)).arrayBuffer())
    return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(""))
}"""
# What the keyboard should reach. The three buttons of a player have no words in any version of ipywidgets.
STOPS = """select:enabled, textarea:enabled, input:enabled:not([type=file]), [role=slider],
    :not(.widget-play) > button:enabled"""
# The label of a control: its own, the text on it, or what stands beside it.
LABEL = """control => (control.labels?.[0] ?? (control.tagName === "BUTTON" ? control : null)
    ?? control.closest(".jupyter-widgets")?.querySelector("label"))?.textContent.trim() || control.title"""


def handle(scope, label):
    """The handle of a slider."""
    sliders = scope.locator(".widget-hslider").filter(has=scope.page.get_by_text(label, exact=True))
    return sliders.locator(".noUi-handle")


def press(scope, label, *keys):
    """Move a slider with keys, each of which moves it."""
    for key in keys:
        before = handle(scope, label).get_attribute("aria-valuenow")
        handle(scope, label).press(key)
        expect(handle(scope, label)).not_to_have_attribute("aria-valuenow", before)


def menu(scope, label):
    """A menu or a field."""
    return scope.get_by_label(label, exact=True)


def choose(scope, label, words):
    """Choose from a menu what begins with these words."""
    options = menu(scope, label).locator("option").all_text_contents()
    menu(scope, label).select_option(next(option for option in options if option.startswith(words)))


def button(scope, name):
    """A button by the words on it, with or without an icon before them."""
    return scope.get_by_role("button", name=re.compile(rf"(^|\W){name}$"))


def upload(scope, *paths):
    """Bring along files, beginning with the Enter key on the button."""
    with scope.page.expect_file_chooser() as chosen:
        scope.get_by_role("button", name=re.compile("Your own picture")).press("Enter")
    chosen.value.set_files(paths)


def pictures(scope):
    """The pictures of all panels, in order, also those that are hidden."""
    return scope.locator("img.widget-image")


def pixels(image):
    """The array `(H, W, 3)` uint8 that the page was sent; None while there is none."""
    try:
        content = base64.b64decode(image.evaluate(CONTENT))
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    except (Error, UnidentifiedImageError):
        return None


def wait_for_pixels(image, expected, most=0, seconds=60):
    """Wait until a picture is the expected array, to `most` grey levels at each pixel."""
    found = []

    def is_there():
        shown = pixels(image)
        if shown is None or shown.shape != expected.shape:
            found[:] = ["nothing" if shown is None else f"shape {shown.shape}, not {expected.shape}"]
            return False
        distance = np.abs(shown.astype(int) - expected)
        found[:] = [f"up to {distance.max()} grey levels away, {(distance > most).mean():.1%} of the values wrong"]
        return distance.max() <= most

    try:
        wait_until(image.page, is_there, seconds)
    except AssertionError as error:
        raise AssertionError(f"the picture is {found[0]}") from error


def controls(scope):
    """Handles of everything that the keyboard should reach."""
    return [control for control in scope.locator(STOPS).all() if control.is_visible()]


def reached_by_tab(scope):
    """How many different controls get the focus when Tab is pressed from the first one until it leaves `scope`."""
    mark = """scope => {
        if (!scope.contains(document.activeElement)) return false
        document.activeElement.dataset.reached = "yes"
        return true
    }"""
    controls(scope)[0].focus()
    while scope.evaluate(mark):
        scope.page.keyboard.press("Tab")
    return scope.locator("[data-reached]").count()

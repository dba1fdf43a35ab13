"""A page in headless Chromium, looked at as a reader would: on a screen, on a phone, at night, on paper."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

DESKTOP, PHONE = (1280, 900), (390, 844)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextmanager
def open_browser(profile: Path) -> Iterator["Browser"]:
    """Chromium or Chrome with a fresh profile in `profile`; skips with the reason where there is none."""
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (requirements.lock)")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver on the PATH: `make browser` installs them on Debian")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield Browser(chrome)
    finally:
        chrome.quit()


class Browser:
    """One tab."""

    def __init__(self, chrome: Any) -> None:
        self._chrome = chrome

    def open(self, page: Path, size: tuple[int, int], *, dark: bool = False) -> None:
        """Load a file into a viewport of `size` = (width, height) CSS pixels."""
        width, height = size
        mobile = width < 600
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self._command("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", features=[scheme])
        self._chrome.get(page.resolve().as_uri())

    def ask(self, script: str) -> Any:
        """What a line of JavaScript returns; the page's own policy forbids scripts, this is the debugger's."""
        return self._chrome.execute_script(script)

    def complaints(self) -> list[str]:
        """What the console says since it was last asked: errors, refused requests, policy violations."""
        return [entry["message"] for entry in self._chrome.get_log("browser")]

    def screenshot(self) -> NDArray[np.uint8]:
        """The whole page, RGB [H, W, 3]."""
        shot = self._command("Page.captureScreenshot", captureBeyondViewport=True)
        image = cv2.imdecode(np.frombuffer(base64.b64decode(shot["data"]), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)

    def pdf(self) -> bytes:
        """The page printed on A4."""
        printed = self._command("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)
        return base64.b64decode(printed["data"])

    def _command(self, name: str, **arguments: Any) -> Any:
        return self._chrome.execute_cdp_cmd(name, arguments)


WIDER_THAN_THE_WINDOW = """
const width = document.documentElement.clientWidth + 1;
return [...document.querySelectorAll('body *')]
  .filter(each => each.getBoundingClientRect().right > width && !each.closest('.scroll, figure.wide'))
  .map(each => each.outerHTML.slice(0, 120));
"""
PICTURES = """
return [...document.images].map(each => {
  const box = each.getBoundingClientRect();
  return [each.alt, each.complete && each.naturalWidth, box.left, box.top + scrollY, box.width, box.height];
});
"""


def check_page(browser: Browser, page: Path) -> None:
    """Fail where a reader would turn away: an image that is blank, a page wider than the phone, an error, no paper."""
    for size, dark in ((DESKTOP, False), (PHONE, False), (PHONE, True)):
        browser.open(page, size, dark=dark)
        complaints, wide = browser.complaints(), browser.ask(WIDER_THAN_THE_WINDOW)
        assert not complaints, complaints
        assert not wide, f"reach beyond {size[0]} px: {wide}"
        width = browser.ask("return document.documentElement.scrollWidth")
        assert width == size[0], f"scrolls sideways at {size[0]} px: {width} px wide"
        shot = browser.screenshot()
        assert shot.shape[1] == size[0]
        for alt, loaded, left, top, width, height in browser.ask(PICTURES):
            assert loaded, f"not loaded: {alt}"
            seen = shot[int(top) : int(top + height), int(left) : int(left + width)]
            assert seen.size and seen.std() > 2, f"blank: {alt}"
    browser.open(page, DESKTOP)
    printed = browser.pdf()
    assert printed.startswith(b"%PDF") and printed.count(b"/Type /Page\n") >= 1

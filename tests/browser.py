"""A headless Chromium for the tests of pages; what needs one is skipped where there is none, but never in CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DRIVER = "chromedriver"


def found(*names: str) -> str | None:
    """The first of these programs that is installed."""
    return next((path for name in names if (path := shutil.which(name))), None)


def needed() -> None:
    """Skip the test, or in CI fail it, where the programs are not installed."""
    missing = [names[0] for names in (BROWSERS, (DRIVER,)) if found(*names) is None]
    if missing and os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(f"CI must have {' and '.join(missing)}: apt-get install chromium chromium-driver")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@contextmanager
def browser(folder: Path) -> Iterator[Any]:
    """A selenium driver whose profile is in this folder, and whose network is cut off."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(found(*BROWSERS))
    quiet = ("--no-first-run", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={folder}", *quiet):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(found(DRIVER))))
    driver.implicitly_wait(1)
    driver.set_page_load_timeout(60)
    driver.set_script_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()


def show(driver: Any, page: Path, scheme: str = "light", size: tuple[int, int] = (1400, 900)) -> None:
    """Open a page in this colour scheme and size."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.get(page.as_uri())

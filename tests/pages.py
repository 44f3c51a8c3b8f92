"""HTML pages: what one is made of, and how a browser shows it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

EVIL = '<img src=x onerror="alert(1)">&amp;\u202e\x1b[31m'
"""What a page must neither run nor be led astray by."""
VOID = {"meta", "br", "img", "link", "input"}


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser; `GLOSSATOR_CHROMIUM` says which, where none is on the path."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra browser-tests")
    names = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome")
    found = os.environ.get("GLOSSATOR_CHROMIUM") or next(filter(None, map(shutil.which, names)), "")
    if not found:
        pytest.skip("needs Chromium: install it, or name its program in GLOSSATOR_CHROMIUM")
    options = [] if os.geteuid() else ["--no-sandbox"]  # which root does not have
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=options)
        yield browser
        browser.close()


VISIBLE_BOXES = """() => [...document.querySelectorAll("svg")].map(svg => {
    const own = svg.getBoundingClientRect(), inside = [...svg.children].filter(c => c.getBBox);
    const boxes = inside.map(c => c.getBoundingClientRect());
    return {area: own.width * own.height, shapes: inside.length, out: inside.filter((_, i) =>
        boxes[i].left < own.left - 1 || boxes[i].right > own.right + 1
        || boxes[i].top < own.top - 1 || boxes[i].bottom > own.bottom + 1
    ).map(c => svg.ariaLabel + ": " + c.outerHTML)};
})"""
WIDER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"



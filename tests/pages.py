"""HTML pages: what one is made of, and how a browser shows it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

EVIL = '<img src=x onerror="alert(1)">&amp;\u202e\x1b[31m'
"""What a page must neither run nor be led astray by."""
VOID = {"meta", "br", "img", "link", "input", "wbr"}


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


def tables(content: str) -> dict[str, list[list[str]]]:
    """The cells of each table, by its name; of charts in them, nothing."""
    content = re.sub(r"<svg.*?</svg>", "", content, flags=re.DOTALL)
    found = {}
    for name, inside in re.findall(
        r'<table[^>]* aria-label="([^"]*)"[^>]*>(.*?)</table>', content, re.DOTALL
    ):
        rows = re.findall(r"<tr>(.*?)</tr>", inside, re.DOTALL)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
        found[unescape(name)] = [[unescape(cell) for cell in row] for row in cells]
    return found


def offline(content: str) -> Page:
    """The page, of which nothing runs and nothing is fetched."""
    page = Page(content)
    assert not page.open
    assert not {"script", "link", "img", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    for _, attrs in page.tags:
        assert "src" not in attrs
        assert not [name for name in attrs if name.startswith("on")]
        assert (attrs.get("href") or "#").startswith("#")
    assert "url(" not in content
    assert "@import" not in content
    policies = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    targets = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {(a["href"] or "")[1:] for a in page.all("a")} <= targets
    return page


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


@contextmanager
def opened(chromium: Any, file: Path, width: int, scheme: str) -> Iterator[Any]:
    """A tab with a page in it that asks for nothing, says nothing and is not too wide."""
    tab = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    assert asked == [file.as_uri()]
    assert said == []
    assert tab.evaluate(WIDER) <= 0, "the page is wider than its window"
    ink, paper = tab.evaluate(
        "() => [getComputedStyle(document.body).color, getComputedStyle(document.body)"
        ".backgroundColor].map(c => c.match(/\\d+/g).reduce((a, b) => a + +b, 0))"
    )
    assert (ink > paper) == (scheme == "dark")
    for chart in tab.evaluate(VISIBLE_BOXES):
        assert chart["out"] == [], "something is drawn outside of its chart"
    yield tab
    tab.close()


VISIBLE_BOXES = """() => [...document.querySelectorAll("svg")].map(svg => {
    const own = svg.getBoundingClientRect(), inside = [...svg.children].filter(c => c.getBBox);
    const boxes = inside.map(c => c.getBoundingClientRect());
    return {area: own.width * own.height, shapes: inside.length, out: inside.filter((_, i) =>
        boxes[i].left < own.left - 1 || boxes[i].right > own.right + 1
        || boxes[i].top < own.top - 1 || boxes[i].bottom > own.bottom + 1
    ).map(c => svg.ariaLabel + ": " + c.outerHTML)};
})"""
WIDER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"

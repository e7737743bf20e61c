"""Pages of docs/ as HTML, for integrators: at `/docs/integrate`, `/docs/api` and `/docs/webhooks`.

HTML in the text is escaped, and nothing needs an inline style or script, as the
Content-Security-Policy requires.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

from budget_sync.settings import PROGRAM_FOLDER

#: The served pages. The wheel contains them.
PAGES = ("integrate", "api", "webhooks")

#: A link to another page of docs/, with or without an anchor.
_PAGE_LINK = re.compile(r"([a-z-]+)\.md(#[\w-]+)?", re.ASCII)


class Section(NamedTuple):
    """A heading of the second level: its anchor and its text."""

    id: str
    title: str


class Guide(NamedTuple):
    """A page: its title, its sections, and the HTML below the title."""

    title: str
    sections: list[Section]
    html: Markup


@lru_cache(maxsize=len(PAGES))
def guide(name: str) -> Guide:
    """A page of PAGES, rendered at its first use."""
    text = (PROGRAM_FOLDER / "docs" / f"{name}.md").read_text(encoding="utf-8")
    return render(text)


def render(text: str) -> Guide:
    """Markdown that begins with its title, as a page."""
    markdown = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
    tokens = markdown.parse(text)
    title = _text(tokens[1])
    sections = []
    for heading, content in pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", anchor(_text(content)))
            if heading.tag == "h2":
                sections.append(Section(anchor(_text(content)), _text(content)))
    # The first three tokens are the title.
    html = markdown.renderer.render(tokens[3:], markdown.options, {})
    return Guide(title, sections, Markup(html))  # noqa: S704  # markdown-it escapes the text


def anchor(title: str) -> str:
    """The anchor of a heading, as GitHub forms it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def address(link: str) -> str | None:
    """The address that a link of docs/ has here; None if the target is not served."""
    if link.startswith(("https://", "http://", "#")):
        return link
    match = _PAGE_LINK.fullmatch(link)
    if match is None or match[1] not in PAGES:
        return None
    return f"/docs/{match[1]}{match[2] or ''}"


def _text(inline: Token) -> str:
    """The text of a heading, without its marks."""
    return "".join(child.content for child in inline.children or [])


class _Renderer(RendererHTML):
    """HTML that works without a mouse, with links that lead somewhere."""

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A block of code that can be scrolled with the keyboard."""
        return str(Markup('<pre tabindex="0"><code>{}</code></pre>\n').format(tokens[idx].content))

    code_block = fence

    def th_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """The heading of a column."""
        return '<th scope="col">'

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A table that scrolls on a narrow screen."""
        return '<div class="scroll" tabindex="0"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """The end of that table."""
        return "</table></div>\n"

    def link_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A link to a served page, or only its text."""
        target = address(str(tokens[idx].attrs["href"]))
        return "<span>" if target is None else str(Markup('<a href="{}">').format(target))

    def link_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """The end of that link."""
        opened = next(each for each in reversed(tokens[:idx]) if each.type == "link_open")
        return "</span>" if address(str(opened.attrs["href"])) is None else "</a>"

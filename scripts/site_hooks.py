"""Hooks of the documentation site (mkdocs.yml): the navigation holds every page, links into the source tree work."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SOURCE = "https://github.com/detgraft/detgraft/blob/main/"
OTHER_LANGUAGE = ".zh.md"
OTHER_LINK = re.compile(r"(\]\((?![a-z]+:)[^)\s]*)\.zh\.md(?=[#)])")
ALTERNATE = re.compile(r"\s*<link\b[^>]*\brel=\"?alternate\b[^>]*>")
LINK = re.compile(r"(\]\()(\.\./[^)\s]+)(\))")


def pages() -> list[str]:
    """Return every page of the default language, relative to docs/, without the results' own files."""
    found = (path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    return sorted(name for name in found if not name.endswith(OTHER_LANGUAGE) and not name.startswith("results/"))


def listed(nav: Any) -> list[str]:
    """Return the pages that a navigation names, in its order."""
    if isinstance(nav, str):
        return [nav]
    entries = nav.values() if isinstance(nav, dict) else nav
    return [name for entry in entries for name in listed(entry)]


def complete(nav: list[Any]) -> list[Any]:
    """Leave out what does not exist, and append pages that nobody put into the navigation.

    Several people write pages at one time; a page must not be lost because mkdocs.yml does not know it yet.
    """
    kept = _existing(nav)
    loose = [name for name in pages() if name not in listed(kept)]
    return [*kept, {"Further pages": loose}] if loose else kept


def _existing(nav: Any) -> Any:
    if isinstance(nav, str):
        return nav if (DOCS / nav).is_file() else None
    if isinstance(nav, dict):
        kept = {title: _existing(entry) for title, entry in nav.items()}
        return {title: entry for title, entry in kept.items() if entry} or None
    return [entry for entry in map(_existing, nav) if entry]


def out_of_docs(text: str, page: str) -> str:
    """Turn links that leave docs/ into links to the source tree.

    Args:
        text: The page's Markdown.
        page: Its path below docs/.
    """

    def replaced(found: re.Match[str]) -> str:
        target, _, anchor = found[2].partition("#")
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
        if path.startswith(("docs/", "../")):
            return found[0]
        return f"{found[1]}{SOURCE}{path}{'#' + anchor if anchor else ''}{found[3]}"

    return LINK.sub(replaced, text)


def in_one_language(text: str) -> str:
    """Turn links to Chinese files, which lead somewhere on a file's own, into links to pages of the site's language."""
    return OTHER_LINK.sub(r"\1.md", text)


def on_config(config: Any) -> Any:
    """Complete the navigation before anything is built (called by MkDocs)."""
    config.nav = complete(config.nav)
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make links between languages and into the source tree work (called by MkDocs)."""
    return out_of_docs(in_one_language(markdown), page.file.src_uri)


def without_network(html: str, address: str) -> str:
    """Replace the one script that the theme fetches from the network by the site's own, and ask for no sitemap.

    For every link to another language in a page's head the theme asks for one, which a browser refuses to a page that
    was opened from the disk, with an error in its console. The menu of languages needs none of it.

    Args:
        html: A finished page.
        address: The page's address below the site's root.
    """
    html = ALTERNATE.sub("", html)
    return html.replace("https://unpkg.com/iframe-worker/shim", "../" * address.count("/") + "assets/search-on-disk.js")


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Keep a page off the network (called by MkDocs)."""
    return without_network(output, page.url)


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    """Keep the page for missing pages off the network (called by MkDocs)."""
    return without_network(output_content, template_name)

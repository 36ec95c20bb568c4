"""Tables for notebooks: plain HTML that follows the notebook's own colours, light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str] = (), right: int = 0
) -> str:
    """Return a table.

    Args:
        title: Stands above.
        headings: One for each column.
        rows: The cells; numbers and texts.
        notes: Sentences below.
        right: From which column on cells stand to the right; 0 for none.
    """

    def cell(tag: str, number: int, value: object) -> str:
        side = "right" if right and number >= right else "left"
        text = escape(str(value)).replace("\n", "<br>")
        return f'<{tag} style="text-align:{side};vertical-align:top;padding:2px 8px">{text}</{tag}>'

    head = "".join(cell("th", number, heading) for number, heading in enumerate(headings))
    body = "".join(f"<tr>{''.join(cell('td', number, value) for number, value in enumerate(row))}</tr>" for row in rows)
    below = "".join(f"<div>{escape(note)}</div>" for note in notes)
    return f"<div><b>{escape(title)}</b><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}</div>"


def html_frame(page: str, height: int = 760) -> str:
    """Return a whole page as a frame of a notebook, so that neither changes the other's colours.

    Args:
        page: HTML text.
        height: Pixels.
    """
    return f'<iframe srcdoc="{escape(page)}" style="width:100%;height:{height}px;border:0"></iframe>'

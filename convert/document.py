# SPDX-License-Identifier: Apache-2.0
"""One report, two forms: Markdown with pictures beside it, and HTML that holds them."""

from __future__ import annotations

import base64
import html
import re
from dataclasses import dataclass, field

_STYLE = """
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 14px; }
th, td { border: 1px solid #ccc; padding: 0.25rem 0.6rem; text-align: left; }
th { background: #f2f2f2; }
img { max-width: 100%; }
figcaption { color: #555; }
"""


@dataclass
class Document:
    """Headings, paragraphs, tables and pictures, in the order in which they are added.

    In text, ``**…**`` is bold and ``` `…` ``` is code; nothing else is marked up.

    Attributes
    ----------
    pictures : dict of bytes
        The PNG files, by name without folder or suffix.
    """

    title: str
    pictures: dict[str, bytes] = field(default_factory=dict)
    _parts: list[tuple] = field(default_factory=list)

    def heading(self, text: str, level: int = 2) -> None:
        self._parts.append(("heading", level, text))

    def text(self, text: str) -> None:
        self._parts.append(("text", text))

    def table(self, header: list[str], rows: list[list[str]]) -> None:
        self._parts.append(("table", header, rows))

    def picture(self, name: str, caption: str, png: bytes) -> None:
        self.pictures[name] = png
        self._parts.append(("picture", name, caption))

    def markdown(self, folder: str) -> str:
        """The report, its pictures in ``folder``."""
        lines = [f"# {self.title}", ""]
        for kind, *part in self._parts:
            if kind == "heading":
                lines += ["#" * part[0] + f" {part[1]}"]
            elif kind == "text":
                lines += [part[0]]
            elif kind == "table":
                header, rows = part
                lines += ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header)]]
                lines += ["| " + " | ".join(row) + " |" for row in rows]
            else:
                name, caption = part
                lines += [f"![{caption}]({folder}/{name}.png)"]
            lines += [""]
        return "\n".join(lines)

    def html(self) -> str:
        """The report as one page that needs no other file."""
        body = [f"<h1>{_inline(self.title)}</h1>"]
        for kind, *part in self._parts:
            if kind == "heading":
                body.append(f"<h{part[0]}>{_inline(part[1])}</h{part[0]}>")
            elif kind == "text":
                body.append(f"<p>{_inline(part[0])}</p>")
            elif kind == "table":
                header, rows = part
                lines = ["".join(f"<th>{_inline(cell)}</th>" for cell in header)]
                lines += ["".join(f"<td>{_inline(cell)}</td>" for cell in row) for row in rows]
                body.append(
                    "<table>" + "".join(f"<tr>{line}</tr>\n" for line in lines) + "</table>"
                )
            else:
                name, caption = part
                data = base64.b64encode(self.pictures[name]).decode()
                body.append(
                    f'<figure><img alt="{html.escape(caption)}" '
                    f'src="data:image/png;base64,{data}">'
                    f"<figcaption>{_inline(caption)}</figcaption></figure>"
                )
        head = f'<meta charset="utf-8"><title>{html.escape(self.title)}</title>'
        return (
            f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n'
            + "\n".join(body)
            + "\n</body></html>\n"
        )


def _inline(text: str) -> str:
    escaped = html.escape(text)
    bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escaped)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", bold)

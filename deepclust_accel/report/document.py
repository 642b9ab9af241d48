"""An HTML page that loads nothing: head, style, script and footer around a body."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable

from deepclust_accel.report.markup import Markup, tag
from deepclust_accel.report.palette import color_rules
from deepclust_accel.report.style import SCRIPT, STYLE

__all__ = ["document"]


def document(title: str, *body: Markup, colors: Iterable[int] = (), version: str | None = None) -> str:
    """Return the page as text; the same arguments give the same text.

    Args:
        colors: indices into the palette that the body uses.
        version: of this package, for the footer.
    """
    # The page may use its own style, its own script and pictures inside it, and nothing else, whatever a label says.
    digest_of = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest_of}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} · deepclust_accel"),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(STYLE + color_rules(colors))),
    )
    made = f"Made by deepclust_accel{f' {version}' if version else ''}. "
    footer = tag("footer", tag("p", f"{made}This page is one file and loads nothing from the network."))
    page = tag("html", head, tag("body", *body, footer, tag("script", Markup(SCRIPT))), lang="en")
    return _storable(f"<!DOCTYPE html>\n{page}\n")


def _storable(page: str) -> str:
    """Replace what UTF-8 or HTML cannot hold: halves of surrogate pairs (odd file names) and control characters."""
    page = page.encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\N{REPLACEMENT CHARACTER}", page)

"""Check every link of the built site: within it page and anchor are there; of others the form.

Nothing is fetched.

python docs/check_links.py docs/_build/html
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Collects anchors and links."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := found.get(key))}
        self.links += [value for key in ("href", "src") if (value := found.get(key))]


# Reserved for examples and tests (RFC 2606, RFC 6761): nothing answers there.
_RESERVED = re.compile(
    r"(^|\.)(example(\.(com|net|org))?|invalid|test|localhost|local)$|(^|[.-])(your|my)[.-]"
)
_HOST = re.compile(r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$")
_PLACEHOLDER = re.compile(
    r"[<>{}\s…]|\.\.\.|%3C|%7B|(^|[/_.-])(todo|fixme|xxx+|placeholder|"
    r"(your|my)[-_]?(user|name|org|repo|project|account)\w*|(user|owner|org)(name)?)([/_.-]|$)",
    re.IGNORECASE,
)


def malformed(link: str) -> str:
    """Say why an address that leads out of the site cannot be right; empty if nothing shows.

    >>> malformed("https://github.com/EvolvingLMMs-Lab/lmms-eval")
    ''
    >>> malformed("https://example.org/page"), malformed("http://github.com/x/y")
    ('no such host can exist', 'not https')
    """
    try:
        parts = urlsplit(link)
        host, _ = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme in ("data", "mailto", "javascript"):
        return "" if parts.scheme == "data" else f"{parts.scheme} addresses have no place here"
    if parts.scheme != "https":
        return "not https"
    if parts.username or parts.password:
        return "carries a name or a password"
    if _RESERVED.search(host) or not _HOST.match(host):
        return "no such host can exist"
    rest = parts.path + (f"?{parts.query}" if parts.query else "")
    if _PLACEHOLDER.search(rest):
        return "holds a placeholder"
    if (
        host in ("github.com", "huggingface.co")
        and len([p for p in parts.path.split("/") if p]) < 1
    ):
        return "names no owner"
    return ""


def broken(home: Path) -> list[str]:
    """Return one line per link that leads nowhere."""
    pages: dict[Path, Page] = {}
    for file in sorted(home.rglob("*.html")):
        pages[file.resolve()] = page = Page()
        page.feed(file.read_text(encoding="utf-8"))
    lines = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if why := malformed(link):
                    lines.append(f"{file.relative_to(home.resolve())}: {link} ({why})")
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            where = f"{file.relative_to(home.resolve())}: {link}"
            if not target.exists():
                lines.append(f"{where} (no such file)")
                continue
            anchors = pages[target].anchors if target in pages else {parts.fragment}
            if parts.fragment and unquote(parts.fragment) not in anchors:
                lines.append(f"{where} (no such anchor)")
    return lines


if __name__ == "__main__":
    found = broken(Path(sys.argv[1]))
    print(
        "\n".join(found)
        or "every link within the site leads somewhere, and every other one is well formed"
    )
    sys.exit(1 if found else 0)

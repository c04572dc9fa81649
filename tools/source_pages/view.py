"""A file's text as HTML, highlighted, with an anchor a line: `#L-12`."""

from __future__ import annotations

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

from .repository import SourceFile

STYLE = """\
.source-view .highlight pre { overflow-x: auto; padding-left: 0.5em; }
.source-view .linenos { user-select: none; padding-right: 1em; color: var(--md-default-fg-color--light, gray); }
.source-view a { color: inherit; }
.source-view span:target { background: var(--md-accent-fg-color--transparent, lightyellow); }
.source-view span[id] { scroll-margin-top: 4rem; }
"""


def view(file: SourceFile) -> str:
    """The HTML of a text file."""
    try:
        lexer = get_lexer_for_filename(file.name, stripnl=False)
    except ClassNotFound:
        lexer = TextLexer(stripnl=False)
    formatter = HtmlFormatter(linenos="inline", linespans="L", anchorlinenos=True, wrapcode=True)
    return f'<div class="source-view" data-search-exclude>{highlight(file.text, lexer, formatter)}</div>'


def anchors(file: SourceFile) -> set[str]:
    """The anchors of a file's view."""
    return {f"L-{line}" for line in range(1, (file.lines or 0) + 1)}

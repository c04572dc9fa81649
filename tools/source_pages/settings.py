"""What can be set for the plugin in mkdocs.yml; README.md says it with an example."""

from __future__ import annotations

from mkdocs.config import base
from mkdocs.config import config_options as option

from .patterns import DEFAULTS


class Settings(base.Config):
    """The plugin's options."""

    repository = option.Type(str, default=".")
    """The repository's root, relative to mkdocs.yml."""
    folder = option.Type(str, default="source")
    """Where the pages lie in the site."""
    title = option.Type(str, default="Source code")
    """The heading of the first overview page."""
    include = option.ListOfItems(option.Type(str), default=["**"])
    exclude = option.ListOfItems(option.Type(str), default=[])
    """Globs of paths, `**` for any folders; what git ignores is left out in any case."""
    import_roots = option.ListOfItems(option.Type(str), default=["src", "."])
    """Folders that imports are looked up in, in order; and each script's own folder before them."""
    tests = option.ListOfItems(option.Type(str), default=["tests/**"])
    examples = option.ListOfItems(option.Type(str), default=["examples/**"])
    unsearched = option.ListOfItems(option.Type(str), default=["tests/**"])
    """Files whose pages the site's search leaves out."""
    patterns = option.Type(dict, default=DEFAULTS)
    """By title, globs of dotted names that a file is said to use, such as `os.environ*`."""
    purposes = option.Type(dict, default={})
    """By path, what folders are for that do not say it themselves."""
    largest_view = option.Type(int, default=200_000)
    """Bytes of a file beyond which its text is not shown."""
    largest_keyword_page = option.Type(int, default=400)
    """Keywords beyond which an index has a page a letter."""
    errors = option.ListOfItems(option.Type(str), default=[])
    """Base classes of errors whose messages are listed where a page has a line `{{ messages }}`."""

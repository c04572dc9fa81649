"""The plugin: adds the pages to the site and to its menu, and the texts of files to their pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import ConfigurationError
from mkdocs.plugins import BasePlugin
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from .file_page import file_page
from .folder_page import FILES, file_index, overview
from .keywords import KEYWORDS, keyword_pages
from .messages import listing
from .repository import SourceFile
from .settings import Settings
from .site import Site
from .view import STYLE, anchors, view

_STYLESHEET = "assets/source-pages.css"
_MESSAGES = "{{ messages }}"
_VIEW = "<!-- the text of the file -->"
"""Stands for a file's text until its page is whole, so that no plugin has to read it as HTML: the search would."""


class SourcePages(BasePlugin[Settings]):
    """See README.md."""

    def on_config(self, config: MkDocsConfig) -> None:
        root = Path(config.config_file_path or ".").parent / self.config.repository
        if not root.is_dir():
            raise ConfigurationError(f"source-pages: there is no folder {root}")
        self._site = Site.read(root, self.config)
        self._viewed: dict[str, SourceFile] = {}
        config.extra_css.append(_STYLESHEET)

    def on_files(self, files: Files, *, config: MkDocsConfig) -> None:
        for place, content, in_menu in self._pages():
            inclusion = InclusionLevel.INCLUDED if in_menu else InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, place, content=content, inclusion=inclusion))
        files.append(File.generated(config, _STYLESHEET, content=STYLE))
        if config.nav is not None:
            _put(config.nav, f"{self.config.folder}/", self._menu(""))

    def _pages(self) -> Iterator[tuple[str, str, bool]]:
        site = self._site
        for file in site.files.values():
            self._viewed[site.page(file.path)] = file
            yield site.page(file.path), file_page(site, file), True
        for folder in site.folders:
            yield site.folder_page(folder), overview(site, folder), True
            yield site.folder_page(folder, FILES), file_index(site, folder), True
            for number, (place, content) in enumerate(keyword_pages(site, folder)):
                yield place, content, number == 0

    def _menu(self, folder: str) -> list[Any]:
        """The menu of a folder: its overview, the folders and files in it, its indexes."""
        site = self._site
        entries: list[Any] = [site.folder_page(folder)]
        entries += [{child.rpartition("/")[2]: self._menu(child)} for child in site.children(folder)]
        entries += [{file.name: site.page(path)} for path, file in site.files.items() if file.folder == folder]
        return [*entries, site.folder_page(folder, FILES), site.folder_page(folder, KEYWORDS)]

    def on_page_markdown(self, markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
        if _MESSAGES not in markdown or page.file.src_uri in self._viewed:
            return markdown
        return markdown.replace(_MESSAGES, listing(self._site, page.file.src_uri))

    def on_page_content(self, html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
        file = self._viewed.get(page.file.src_uri)
        if file is None or not file.text or file.size > self.config.largest_view:
            return html
        page.present_anchor_ids = (page.present_anchor_ids or set()) | anchors(file)
        return html + _VIEW

    def on_post_page(self, output: str, *, page: Page, config: MkDocsConfig) -> str:
        file = self._viewed.get(page.file.src_uri)
        return output if file is None or _VIEW not in output else output.replace(_VIEW, view(file), 1)


def _put(menu: Any, place: str, entries: list[Any]) -> bool:
    """Replaces the entry of the menu whose place is the folder; says whether there was one."""
    if isinstance(menu, list):
        return any(_put(item, place, entries) for item in menu)
    if isinstance(menu, dict):
        for title, value in menu.items():
            if value == place:
                menu[title] = entries
                return True
            if _put(value, place, entries):
                return True
    return False

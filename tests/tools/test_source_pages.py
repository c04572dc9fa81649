"""The plugin documents a repository that it knows nothing of: every file, links both ways, strictly."""

from __future__ import annotations

import html
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import markdown as python_markdown
import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort
from source_pages.links import link
from source_pages.markdown import code, plain
from source_pages.python_file import parse
from source_pages.repository import SourceFile, files_of, fits

from tests.tools.harbour import FILES, write


def built(root: Path, more: str = "", **others: str) -> Path:
    """The site's folder, built strictly."""
    config = load_config(str(write(root, more, **others)), strict=True)
    build(config)
    return Path(config.site_dir)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("harbour"))


@pytest.fixture
def article(site: Path) -> Callable[[str], str]:
    """The text of a page, without tags, and its HTML."""

    def read(name: str) -> str:
        text = (site / "code" / f"{name}.html").read_text()
        main = text[text.index('role="main"') :]
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", main)).split())

    return read


def raw(site: Path, name: str) -> str:
    return (site / "code" / f"{name}.html").read_text()


def test_every_file_has_a_page(site: Path) -> None:
    for name in FILES:
        assert (site / "code" / f"{name.replace('.ci', 'dot-ci')}.html").is_file(), name


def test_metadata_of_any_file(article: Callable[[str], str]) -> None:
    assert "Type binary Size 256 bytes" in article("chart.bin")
    assert "Lines" not in article("chart.bin")
    assert "Path Makefile Type Makefile Size 36 bytes Lines 3" in article("Makefile")
    assert "Type script" in article("dot-ci/run")
    assert "Purpose What to do first." in article("Makefile")
    assert "docs/ 1 file, 5 lines Pages." in article("index")
    assert "docs/index.md Markdown 5 Harbour" in article("file-index")


def test_a_python_file(site: Path, article: Callable[[str], str]) -> None:
    page = article("src/harbour/ships.py")
    assert "Purpose Ships, and how dredge makes room for them." in page
    assert "A second paragraph | with a bar, a <tag> and [brackets][none]." in page
    assert "class Ship A ship with a *name* and __draught__. ( lines 15–22 )" in page
    assert "moor(berth: int | None = None, *, days: float = 1.5) -> bool Takes a berth. ( lines 18–22 )" in page
    assert "DEEPEST: int Metres. ( line 11 )" in page
    assert 'id="L-12"' in raw(site, "src/harbour/ships.py")


def test_links_both_ways(site: Path, article: Callable[[str], str]) -> None:
    ships, errors = article("src/harbour/ships.py"), article("src/harbour/errors.py")
    assert "Imports src/harbour/errors.py What may go wrong. From outside: os , subprocess ." in ships
    assert "Imported by src/harbour/ships.py Ships, and how dredge makes room" in errors
    assert 'href="ships.py.html"' in raw(site, "src/harbour/errors.py")
    assert "Imported by examples/show.py src/harbour/__init__.py Berths for ships. Detected" in ships
    assert "Imports examples/beside.py Lies beside. src/harbour/__init__.py" in article("examples/show.py")


def test_detected_patterns(article: Callable[[str], str]) -> None:
    page = article("src/harbour/ships.py")
    assert "Security: processes subprocess 7 Security: processes subprocess.run 26" in page
    assert "Security: environment variables os.environ.get 20" in page
    assert "Security: deleting and replacing files path.unlink 27" in page
    assert "Detected" not in article("src/harbour/errors.py")


def test_tests_and_examples(article: Callable[[str], str]) -> None:
    page = article("src/harbour/ships.py")
    assert "Tests tests/test_ships.py Ships moor. tests/test_port.py Usage examples examples/show.py In" in page


def test_related_files(article: Callable[[str], str]) -> None:
    assert "In the same folder __init__.py , errors.py , torn.py Source" in article("src/harbour/ships.py")


def test_what_does_not_parse_has_a_page(article: Callable[[str], str]) -> None:
    assert "Not parsed unterminated triple-quoted string" in article("src/harbour/torn.py")


def test_folders(article: Callable[[str], str]) -> None:
    page = article("src/harbour/index")
    assert page.startswith('role="main"> harbour The code / src Berths for ships. 4 files, 53 lines.')
    assert "Detected patterns Pattern Files Security: processes ships.py" in page
    assert "Imported from examples tests" in page
    assert "src/ 4 files, 53 lines" in article("index")
    assert "src/harbour/ships.py Python 35 Ships, and how dredge" in article("file-index")


def test_keywords(site: Path, article: Callable[[str], str]) -> None:
    page = article("src/keyword-index")
    assert "berths: src/harbour/__init__.py" in page
    assert "dredge: src/harbour/ships.py" in page
    assert "FullError: src/harbour/errors.py" in page
    assert "_full" not in page
    assert 'href="harbour/ships.py.html#m-dredge"' in raw(site, "src/keyword-index")


def test_a_long_index_has_a_page_a_letter(tmp_path: Path) -> None:
    site = built(tmp_path, "largest_keyword_page: 3")
    assert "dredge" not in raw(site, "keyword-index")
    assert "dredge" in raw(site, "keyword-index/d")


def test_messages(site: Path) -> None:
    text = (site / "index.html").read_text()
    page = " ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())
    assert "FullError There is no berth left." in page
    assert "no berth for …. What to do: wait. (ships.py, line 21)" in page
    assert "… is full <north>. What to do: choose another. (ships.py, line 31)" in page


@pytest.mark.parametrize(
    "target",
    ["code/src/harbour/boats.py.md", "code/src/harbour/ships.py.md#L-40", "code/src/harbour/ships.py.md#m-Boat"],
)
def test_a_broken_link_fails(tmp_path: Path, target: str) -> None:
    with pytest.raises(Abort):
        built(tmp_path, index=f"# Harbour\n\n[Boats]({target})\n")


def test_a_page_that_no_menu_lists_fails(tmp_path: Path) -> None:
    with pytest.raises(Abort):
        built(tmp_path, lost="# Lost\n")


def test_settings_choose_files_and_patterns(tmp_path: Path) -> None:
    more = 'include: ["src/**"], exclude: ["**/torn.py"], patterns: { Dredging: ["subprocess.*"] }, errors: []'
    site = built(tmp_path, more, index="# Harbour\n")
    assert sorted(path.name for path in (site / "code/src/harbour").glob("*.py.html")) == [
        "__init__.py.html",
        "errors.py.html",
        "ships.py.html",
    ]
    assert "Dredging" in raw(site, "src/harbour/ships.py")
    assert "Security" not in raw(site, "src/harbour/ships.py")


def test_git_says_what_there_is(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / ".gitignore").write_text("*.bin\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    names = {file.path for file in files_of(tmp_path, ["**"], [])}
    assert names == {*FILES, ".gitignore", "mkdocs.yml"} - {"chart.bin"}


def test_where_git_refuses_the_folder_is_read(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "made.py").touch()
    assert {file.path for file in files_of(tmp_path, ["**"], [".git"])} == {*FILES, "mkdocs.yml"}


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("tests/**", "tests/a/b.py", True),
        ("tests/*", "tests/a/b.py", False),
        ("**/b.py", "b.py", True),
        ("**/b.py", "a/c/b.py", True),
        ("**/b.py", "a/ab.py", False),
        ("a.py", "axpy", False),
    ],
)
def test_globs(glob: str, name: str, expected: bool) -> None:
    assert fits(name, [glob]) is expected


@pytest.mark.parametrize(
    "text",
    [
        "a*b*c",
        "[n/64][k/2]",
        "<b>&amp;",
        "# no heading",
        "1. no list",
        "a_b_ c__d__",
        "x | y",
        "\\*",
        "![i](u)",
        "a: b",
        "~~a~~",
    ],
)
def test_text_means_itself(text: str) -> None:
    made = python_markdown.markdown(f"- {plain(text)}\n- {code(text)}", extensions=["tables", "attr_list"])
    items = [html.unescape(re.sub(r"<[^>]+>", "", item)) for item in re.findall(r"<li>(.*?)</li>", made, re.DOTALL)]
    assert items == [text, text]


def test_packages_that_import_each_other_in_a_circle() -> None:
    texts = {"a/__init__.py": "from b import x", "b/__init__.py": "from a import x", "c.py": "from a import x"}
    files = {path: parse(SourceFile(path, 0, "Python", text)) for path, text in texts.items()}
    assert link(files, ["."]).imports["c.py"] == {"a/__init__.py"}

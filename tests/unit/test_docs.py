"""The pages agree with the program and with each other."""

import re
from pathlib import Path
from typing import Any

import pytest

from mountfs.backends.memory import MemoryStore
from mountfs.configuration.fstab import WORDS_OF_OTHERS
from mountfs.configuration.options import OPTIONS
from mountfs.storage.body import BytesBody

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *CHECKOUT.glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file of the checkout."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())

    relative = [link for link in links if "://" not in link]
    missing = [link for link in relative if not (page.parent / link).exists()]
    assert missing == []


def test_modules_that_pages_name_exist() -> None:
    """What is said to be in a module has not moved to another."""
    here = {
        f"/{path.relative_to(CHECKOUT)}"
        for folder in ("mountfs", "backends", "cache", "tests", "bench", "scripts")
        for path in (CHECKOUT / folder).rglob("*.py")
    }
    told = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"`([a-z_0-9/]+\.py)`", page.read_text())
    }

    assert {each for each in told if not _is_among(each[1], here)} == set()


def _is_among(name: str, paths: set[str]) -> bool:
    return any(path.endswith(f"/{name}") for path in paths)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_is_in_the_reference(option: object) -> None:
    """An option that exists is described."""
    name = getattr(option, "name", "")
    text = (DOCS / "reference" / "cli.md").read_text()

    assert re.search(rf"^\| `--{name}[` ]", text, re.MULTILINE)


def test_the_reference_names_no_option_that_is_gone() -> None:
    """What is described exists."""
    text = (DOCS / "reference" / "cli.md").read_text()
    described = set(re.findall(r"^\| `--([a-z0-9-]+)", text, re.MULTILINE))

    assert described == {option.name for option in OPTIONS}


def test_every_dependency_has_its_licence_stated() -> None:
    """The page of licences has each pinned package at its version."""
    text = (DOCS / "reference" / "licences.md").read_text()
    stated = set(re.findall(r"^\| ([\w.-]+) \| ([\w.]+) \| .+ \|$", text, re.MULTILINE))
    pinned = (CHECKOUT / "constraints.txt").read_text().splitlines()

    assert {tuple(line.split("==")) for line in pinned} == stated - {
        ("package", "version")
    }
    assert "not stated" not in text


def test_words_of_fstab_are_no_options() -> None:
    """No word that is ignored in `-o` is the name of an option."""
    assert not WORDS_OF_OTHERS & {option.name for option in OPTIONS}


async def test_the_example_that_lists_everything_does() -> None:
    """The how-to's own code finds the keys in all directories."""
    page = (DOCS / "how-to" / "use-as-a-library.md").read_text()
    section = page.partition("## List everything")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    store = MemoryStore()
    for key in ("a", "b/c", "b/d/e"):
        await store.write(key, BytesBody(b""))

    assert [key async for key in names["keys_below"](store, "")] == [
        "a",
        "b/c",
        "b/d/e",
    ]

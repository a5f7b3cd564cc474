"""The commands that stand in the pages."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
PAGES = sorted(
    page
    for page in (*DOCS.rglob("*.md"), *CHECKOUT.glob("*.md"))
    if DOCS / "changes" not in page.parents
)
_BLOCK = re.compile(
    r"(?:^[ ]*<!-- not run: (?P<reason>[^>]+) -->\n)?"
    r"^(?P<indent>[ ]*)```sh\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_INLINE = re.compile(r"`(mountfs [^`]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """Commands that stand together."""

    text: str
    reason: str | None
    """Why they are not run here; None: they are."""


def blocks(page: Path) -> list[Block]:
    """Return the blocks of commands of a page, from its top."""
    return [
        Block(textwrap.dedent(found["text"]), found["reason"])
        for found in _BLOCK.finditer(page.read_text())
    ]


def mountfs_commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each `mountfs …` of a page: of its blocks, and of its text."""
    text = page.read_text()
    lines = [line for block in blocks(page) for line in _lines(block.text)]
    for line in (
        *lines,
        *(re.sub(r"\s+", " ", each) for each in _INLINE.findall(text)),
    ):
        for words in _split(line):
            if words and words[0].rpartition("/")[2] == "mountfs":
                yield words[1:]


def _lines(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


def _split(line: str) -> Iterator[list[str]]:
    """Yield the simple commands of a line, as far as they can be told apart."""
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.commenters = "#"
        lexer.wordchars += "|:,@=%$*[]{}"
        words = list(lexer)
    except ValueError:
        return
    command: list[str] = []
    for word in words:
        if set(word) <= set("();<>|&"):
            yield command
            command = []
        else:
            command.append(word)
    yield command

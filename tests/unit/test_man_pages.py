"""Man pages and completion: of today, and understood by those who read them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mountfs.cli import build_parser

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
MAN_PAGES = sorted((DOCS / "man").iterdir())


def files_in(directory: Path) -> dict[str, str]:
    """Return the texts of the files in a directory."""
    return {each.name: each.read_text() for each in directory.iterdir()}


def test_they_are_what_make_pages_writes(tmp_path: Path) -> None:
    """After a change of the pages or the parser: `make pages`."""
    script = CHECKOUT / "scripts" / "pages.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=60)

    for folder in ("man", "completion"):
        written, kept = files_in(tmp_path / folder), files_in(DOCS / folder)
        assert set(kept) == set(written)
        stale = [name for name in written if kept[name] != written[name]]
        assert not stale, "run `make pages`"


@pytest.mark.parametrize("page", MAN_PAGES, ids=lambda page: page.name)
def test_man_has_no_complaint(page: Path) -> None:
    """groff warns of nothing, and mandoc finds no error, if they are installed."""
    text = page.read_text()
    if text.startswith(".so "):
        assert (DOCS / "man" / Path(text.split()[1]).name).exists()
        return
    for command in (
        ("groff", "-man", "-ww", "-Kutf8", "-Tutf8", "-z"),
        ("mandoc", "-T", "lint", "-W", "error"),
    ):
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run(
            command, input=text, text=True, capture_output=True, check=False, timeout=30
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_command_is_in_the_man_page() -> None:
    """A command that exists has a section."""
    text = (DOCS / "man" / "mountfs.1").read_text().replace("\\-", "-")

    for name in build_parser()[1]:
        assert f".SS mountfs {name}\n" in text


def test_bash_completes_commands_and_options() -> None:
    """The file is understood, and knows what can follow."""
    program = """
        source "$1"
        COMP_WORDS=(mountfs "$2") COMP_CWORD=1 COMP_LINE="mountfs $2"
        COMP_POINT=${#COMP_LINE}
        _shtab_mountfs mountfs "$2" mountfs
        printf "%s\\n" "${COMPREPLY[@]}"
    """
    file = DOCS / "completion" / "mountfs"

    done = subprocess.run(
        ["bash", "-c", program, "bash", str(file), "inst"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert done.stdout.split() == ["install"]
    assert done.stderr == ""

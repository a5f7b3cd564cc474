"""Man pages and completion: of today, and understood by those who read them."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
MAN_PAGES = sorted((DOCS / "man").iterdir())


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

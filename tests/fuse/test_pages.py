"""Every command that stands in a page is run as it stands there.

Only the words in capitals are replaced: BUCKET and PREFIX, DIR, SOURCE, RESTORED. What
cannot be run here says why, in a comment before it, and is only read by the shell; what
it asks of mountfs, and what the text says besides, must be a command that exists.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountfs import cli, mounts
from tests.fakes import s3_servers
from tests.fakes.s3_servers import S3Server
from tests.fuse import pages
from tests.fuse.mounting import Connection

RUN_S = 100
WITH_COMMANDS = [page for page in pages.PAGES if pages.blocks(page)]
RUN = [
    page
    for page in WITH_COMMANDS
    if any(block.reason is None for block in pages.blocks(page))
]
PLACEHOLDERS = re.compile(r"^[A-Z|.\[\]…-]+$")


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_a_shell_understands_every_block(page: Path) -> None:
    """No block, whether it is run or not, has an error of syntax."""
    for block in pages.blocks(page):
        done = subprocess.run(
            ["bash", "-n"],
            input=block.text,
            text=True,
            capture_output=True,
            check=False,
            timeout=10,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stderr}"


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.stem)
def test_every_command_that_is_named_exists(page: Path) -> None:
    """`mountfs X --option` in a page is a command with that option."""
    parser, names = cli.build_parser()
    for words in pages.mountfs_commands(page):
        first = next((word for word in words if not word.startswith("-")), None)
        if first is None or PLACEHOLDERS.match(first):
            continue
        for name in first.split("|"):
            assert name in names, f"{page.name}: mountfs {' '.join(words)}"
            known = _options_of(parser, name)
            for word in words:
                option = word.partition("=")[0]
                if option.startswith("--") and option != "--":
                    assert option in known, f"{page.name}: mountfs {' '.join(words)}"


def _options_of(parser: object, name: str) -> set[str]:
    (action,) = (
        each
        for each in parser._actions  # type: ignore[attr-defined]
        if hasattr(each.choices, "items")
    )
    return set(action.choices[name]._option_string_actions)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Path]:
    """A directory for the commands of a page; nothing stays mounted below it."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "mountfs"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m mountfs "$@"\n')
    command.chmod(0o755)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    for name in ("run", "source", "dir", "tmp"):
        (tmp_path / name).mkdir(mode=0o700)
    for name in ("README.md", "Makefile", "CHANGELOG.md"):
        shutil.copy2(pages.CHECKOUT / name, tmp_path / "source" / name)
    try:
        yield tmp_path
    finally:
        _unmount_below(tmp_path)


def _unmount_below(directory: Path) -> None:
    """Abort and detach what is mounted there: a page that fails may leave it."""
    for entry in mounts.all_mounts():
        if not Path(entry.mount_point).is_relative_to(directory):
            continue
        Connection(entry).abort()
        mounts.unmount(Path(entry.mount_point), is_lazy=True)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work(
    page: Path, world: Path, seaweedfs_server: S3Server
) -> None:
    """A reader who types what stands there comes to the end of the page."""
    bucket = s3_servers.make_bucket(seaweedfs_server)
    script = ["set -euo pipefail", f"cd {world}"]
    if page.stem == "first-mount":
        script.append(_checkout(world))
    script += [
        _filled(block.text, world, bucket, seaweedfs_server)
        for block in pages.blocks(page)
        if block.reason is None
    ]

    told = _run("\n".join(script), world, seaweedfs_server)

    assert "Traceback" not in told


def _checkout(world: Path) -> str:
    """Lay out what the tutorial uses of a checkout; return what its shell is told."""
    for name in ("README.md", "Makefile"):
        shutil.copy2(pages.CHECKOUT / name, world / name)
    for name, source in (("scripts", "scripts"), ("tests", "tests/model")):
        shutil.copytree(pages.CHECKOUT / source, world / name)
    # The set-up is done, or no test would run. What the demo prints is kept for the
    # address that is in it.
    return 'make() { command make -o set-up "$@" | tee -a demo.log; }'


def _filled(text: str, world: Path, bucket: str, server: S3Server) -> str:
    words = {
        "BUCKET": bucket,
        "PREFIX": "data",
        "DIR": str(world / "dir"),
        "SOURCE": str(world / "source"),
        "RESTORED": str(world / "restored"),
    }
    text = re.sub(
        r"\b(BUCKET|PREFIX|DIR|SOURCE|RESTORED)\b", lambda m: words[m[1]], text
    )
    text = text.replace(
        "http://127.0.0.1:PORT", "$(grep -o 'http://127[0-9.:]*' demo.log | head -1)"
    )
    return text.replace("https://s3.example.org", server.endpoint_url)


def _run(script: str, world: Path, server: S3Server) -> str:
    environment = {
        **os.environ,
        **s3_servers.aws_environment(),
        "AWS_ENDPOINT_URL_S3": server.endpoint_url,
        "PATH": f"{world / 'bin'}:{os.environ['PATH']}",
        "XDG_RUNTIME_DIR": str(world / "run"),
        "TMPDIR": str(world / "tmp"),
        "HOME": str(world),
        "MOUNTFS_STATE_DIR": str(world / "state"),
        "MOUNTFS_CACHE_DIR": str(world / "cache"),
        "MOUNTFS_CACHE_SIZE": "64M",
        "MOUNTFS_MIN_FREE": "0",
        "MOUNTFS_ADDRESSING_STYLE": "path",
    }
    done = subprocess.run(
        ["bash", "-c", f"trap 'mountfs umount {world / 'dir'} || true' EXIT\n{script}"],
        cwd=world,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=RUN_S,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, f"{script}\n{told}"
    return told

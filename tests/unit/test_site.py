"""The site can be built, and no link in it leads nowhere."""

import subprocess
import sys
from pathlib import Path

from tests.fuse.pages import CHECKOUT


def test_the_site_has_every_page_and_no_dead_link(tmp_path: Path) -> None:
    """mkdocs is strict: a missing page or anchor is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]

    done = subprocess.run(
        [*command, "--site-dir", str(tmp_path)],
        cwd=CHECKOUT,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "how-to" / "backup" / "index.html").exists()

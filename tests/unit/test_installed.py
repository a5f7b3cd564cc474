"""What `mountfs install` puts on a system, and takes away again."""

import io
from pathlib import Path

import pytest

from mountfs import cli
from mountfs.actions import installed
from mountfs.actions.installed import PARTS, Installer, Origin
from mountfs.errors import UsageError

CONF = """PRUNE_BIND_MOUNTS="yes"
# PRUNENAMES=".git"
PRUNEPATHS="/tmp /var/spool"
PRUNEFS="NFS afs fuse.sshfs"
"""


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    """An installation by pip, with files of others beside ours."""
    prefix = tmp_path / "venv"
    names = [f"bin/{name}" for name in (*installed.HELPERS, "mountfs")]
    names += [
        "share/man/man1/mountfs.1",
        "share/man/man8/mount.mountfs.8",
        "share/man/man1/other.1",
        "share/bash-completion/completions/mountfs",
        "share/zsh/site-functions/_mountfs",
    ]
    for name in names:
        (prefix / name).parent.mkdir(parents=True, exist_ok=True)
        (prefix / name).write_text(name)
    unit = prefix / "share/mountfs/systemd/system/mountfs@.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("ExecStart=/usr/bin/mountfs mount -f %i\n")
    return Origin(prefix / "bin", prefix)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with a list of what updatedb leaves out."""
    conf = tmp_path / "root/etc/updatedb.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(CONF)
    conf.chmod(0o640)
    return tmp_path / "root"


def files_of(root: Path) -> dict[str, str]:
    """Return the files below a root; of a link, where it leads."""
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else path.read_text()
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_everything_is_put_where_it_is_looked_for(root: Path, origin: Origin) -> None:
    """Helpers, units, man pages, completion and PRUNEFS; and nothing of others."""
    out = io.StringIO()

    Installer(root, origin, out).install(PARTS)

    found = files_of(root)
    bin = origin.scripts
    assert {name: found.pop(f"usr/sbin/{name}") for name in installed.HELPERS} == {
        name: str(bin / name) for name in installed.HELPERS
    }
    assert found == {
        "etc/updatedb.conf": CONF.replace("fuse.sshfs", "fuse.sshfs fuse.mountfs"),
        "usr/local/lib/systemd/system/mountfs@.service": (
            f"ExecStart={bin}/mountfs mount -f %i\n"
        ),
        "usr/local/share/bash-completion/completions/mountfs": (
            "share/bash-completion/completions/mountfs"
        ),
        "usr/local/share/man/man1/mountfs.1": "share/man/man1/mountfs.1",
        "usr/local/share/man/man8/mount.mountfs.8": "share/man/man8/mount.mountfs.8",
        "usr/local/share/zsh/site-functions/_mountfs": (
            "share/zsh/site-functions/_mountfs"
        ),
    }
    assert out.getvalue().count("\n") == len(found) + len(installed.HELPERS)
    assert (root / "etc/updatedb.conf").stat().st_mode & 0o777 == 0o640


def test_a_checkout_has_the_same(root: Path, origin: Origin, tmp_path: Path) -> None:
    """`pip install -e` brings the commands alone; the rest lies in the checkout."""
    checkout = Path(__file__).resolve().parents[2]
    from_checkout = Origin(origin.scripts, tmp_path / "nothing", checkout)

    Installer(root, from_checkout, io.StringIO()).install(PARTS)

    local = root / "usr/local"
    found = {path.relative_to(local) for path in local.rglob("*") if path.is_file()}
    assert {str(path) for path in found} == {
        "lib/systemd/system/mountfs@.service",
        "lib/systemd/user/mountfs@.service",
        "share/bash-completion/completions/mountfs",
        "share/fish/vendor_completions.d/mountfs.fish",
        "share/man/man1/mountfs.1",
        "share/man/man5/mountfs.toml.5",
        "share/man/man8/mount.mountfs.8",
        "share/man/man8/umount.mountfs.8",
        "share/zsh/site-functions/_mountfs",
    }


def test_a_second_time_changes_nothing(root: Path, origin: Origin) -> None:
    """It may be said after each upgrade."""
    Installer(root, origin, io.StringIO()).install(PARTS)
    before, out = files_of(root), io.StringIO()

    Installer(root, origin, out).install(PARTS)

    assert files_of(root) == before
    assert out.getvalue() == "everything is in its place already\n"


def test_another_environment_takes_over_the_links(
    root: Path, origin: Origin, tmp_path: Path
) -> None:
    """After a move of the environment the helpers lead to the new one."""
    Installer(root, origin, io.StringIO()).install({"helpers"})
    moved = origin.scripts.rename(tmp_path / "moved")

    Installer(root, Origin(moved, origin.prefix), io.StringIO()).install({"helpers"})

    assert files_of(root)["usr/sbin/mount.mountfs"] == str(moved / "mount.mountfs")


def test_removing_leaves_the_system_as_it_was(root: Path, origin: Origin) -> None:
    """Also if something of it is gone already."""
    before = files_of(root)
    installer = Installer(root, origin, io.StringIO())
    installer.install(PARTS)
    (root / "usr/sbin/mount.mountfs").unlink()

    installer.remove(PARTS)

    assert files_of(root) == before


def test_only_the_wanted_parts_are_touched(root: Path, origin: Origin) -> None:
    """A package that brings the files itself asks for the list alone."""
    Installer(root, origin, io.StringIO()).install({"updatedb"})

    assert set(files_of(root)) == {"etc/updatedb.conf"}


def test_a_helper_of_a_package_is_not_replaced(root: Path, origin: Origin) -> None:
    """What is no link of ours belongs to somebody, and stays when we go."""
    other = root / "usr/sbin/mount.mountfs"
    other.parent.mkdir(parents=True)
    other.write_text("of a package")
    installer = Installer(root, origin, io.StringIO())

    with pytest.raises(UsageError, match="remove the package"):
        installer.install(PARTS)
    installer.remove(PARTS)

    assert other.read_text() == "of a package"


def test_what_pip_has_put_in_its_place_stays_there(root: Path) -> None:
    """With /usr/local as the prefix the man pages are where they are looked for."""
    prefix = root / "usr/local"
    page = prefix / "share/man/man1/mountfs.1"
    page.parent.mkdir(parents=True)
    page.touch()
    installer = Installer(root, Origin(prefix / "bin", prefix), io.StringIO())

    installer.install({"man"})
    installer.remove({"man"})

    assert page.exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'PRUNEFS="fuse.mountfs"\n'),
        ("A=1", 'A=1\nPRUNEFS="fuse.mountfs"\n'),
        ('PRUNEFS = ""\n', 'PRUNEFS = "fuse.mountfs"\n'),
        ('#PRUNEFS="x"\nPRUNEFS="y"', '#PRUNEFS="x"\nPRUNEFS="y fuse.mountfs"'),
        ('PRUNEFS="fuse.mountfs2"', 'PRUNEFS="fuse.mountfs2 fuse.mountfs"'),
        ('PRUNEFS="fuse.mountfs a"', 'PRUNEFS="fuse.mountfs a"'),
    ],
)
def test_the_type_is_in_the_list_once(before: str, after: str) -> None:
    """Whatever the file looks like."""
    assert installed.with_type(before) == after
    assert installed.with_type(after) == after
    assert "fuse.mountfs" not in installed.without_type(after).replace("mountfs2", "")


def test_the_command_says_what_this_python_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment without the helpers is told in one sentence."""
    lacking = Origin(tmp_path / "bin", tmp_path)
    monkeypatch.setattr(Origin, "of_this_python", lambda: lacking)

    assert cli.main(["install", "--root", str(tmp_path / "root")]) == 2
    assert "mount.mountfs is missing: install mountfs" in capsys.readouterr().err
    assert cli.main(["install", "--root", str(tmp_path / "root"), "--remove"]) == 0

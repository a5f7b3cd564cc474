"""`mountfs config`: all that is wrong, and where each setting comes from."""

import json
import tomllib
from pathlib import Path

import pytest

from mountfs import cli
from mountfs.commands._parser import directory_of
from mountfs.configuration.config import mount_config
from mountfs.configuration.options import OPTIONS, Option
from mountfs.configuration.shown import shown
from mountfs.errors import UsageError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file for all mounts."""
    path = tmp_path / "mountfs.toml"
    monkeypatch.setenv("MOUNTFS_CONFIG", str(path))
    monkeypatch.setattr(
        "mountfs.configuration.effective.instance_files", lambda environ: []
    )
    return path


def test_check_tells_all_that_is_wrong(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names, values and what contradicts itself, in the order of the lines."""
    file.write_text(
        "[mount]\n"
        "readonly = true\n"
        "ttl = 'soon'\n"
        "[mounts.'s3://x']\n"
        "sse-kms-key-id = 'k'\n"
        "[mounts.'file:///srv']\n"
        "ttl = '1s'\n"
        "[mounts.a]\n"
        "url = 'memory://a'\n"
        "profile = 'x'\n"
        "ttl = 1\n"
        "[mounts.b]\n"
        "url = 'memory://b'\n"
        "ttl = 1\n"
    )

    assert cli.main(["config", "check"]) == 2

    told = capsys.readouterr().out.splitlines()
    assert [line.removeprefix(f"{file}:").split(" ")[0] for line in told] == [
        "2:",
        "3:",
        "9:",
        "10:",
        "13:",
    ]
    assert "did you mean read-only?" in told[0]
    assert "it takes a time such as" in told[1]
    assert "nothing says where to mount a" in told[2]
    assert "profile in [mounts.a] means nothing to memory:// stores" in told[3]
    assert "nothing says where to mount b" in told[4]


def test_check_looks_at_a_whole_mount(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What only contradicts itself together is told at the mount's place."""
    file.write_text("[mount]\nttl = 1\n[mounts.'s3://x']\nsse-kms-key-id = 'k'\n")

    assert cli.main(["config", "check", str(file)]) == 2

    told = capsys.readouterr().out
    assert told == (
        f"{file}:4: s3://x: --sse-kms-key-id needs --sse aws:kms or --sse"
        " aws:kms:dsse\n"
    )


def test_check_is_content_with_what_is_right(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so; a variable that nobody reads is noted and no error."""
    file.write_text("[mount]\nttl = 1\n")
    monkeypatch.setenv("MOUNTFS_TTLL", "1")

    assert cli.main(["config", "check"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        f"{file}: nothing is wrong",
        "note: the variable MOUNTFS_TTLL is read by nobody; did you mean MOUNTFS_TTL?",
    ]


def test_show_tells_where_each_setting_comes_from(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shown could be used as a file, and means the same there."""
    file.write_text(
        "[mount]\nttl = 1\nregion = 'r'\n"
        "[mounts.a]\nurl = 's3://a'\nmount-point = '/mnt/a'\n"
        "cache-size = '1G'\nnames-max = 2000\n"
    )
    monkeypatch.setenv("MOUNTFS_NAMES_MAX", "3000")

    assert cli.main(["config", "show", "a", "--ttl=2s", "--umask=077"]) == 0

    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["ttl", "=", '"2s"', "#", "--ttl"] in lines
    assert ["region", "=", '"r"', "#", f"{file}:3"] in lines
    assert ["cache-size", "=", '"1G"', "#", f"{file}:7"] in lines
    assert ["names-max", "=", '"3000"', "#", "MOUNTFS_NAMES_MAX"] in lines
    assert ["file-mode", "=", '"600"', "#", "default"] in lines
    assert tomllib.loads(shown)["mount-point"] == "/mnt/a"
    monkeypatch.delenv("MOUNTFS_NAMES_MAX")
    file.write_text(shown)
    assert cli.main(["config", "show", "--json", "mountfs"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["url"] == "s3://a"
    values = {name: each["value"] for name, each in told["settings"].items()}
    assert values == tomllib.loads(shown)["mount"]


def test_show_lists_the_mounts_with_a_name(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a name all of them, with what is missing."""
    file.write_text("[mounts.a]\nurl = 's3://a'\nmount-point = '/mnt/a'\n[mounts.bb]\n")

    assert cli.main(["config", "show"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        f"a   s3://a at /mnt/a  # {file}:1",
        f"bb  (no url) at (no mount-point)  # {file}:4",
    ]
    assert cli.main(["config", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == {
        "name": "a",
        "url": "s3://a",
        "mount_point": "/mnt/a",
        "from": f"{file}:1",
    }


@pytest.mark.parametrize(
    "option", [each for each in OPTIONS if not each.is_for_store], ids=lambda o: o.name
)
def test_what_is_shown_of_a_setting_could_be_given_again(option: Option) -> None:
    """Each default of a mount is a text that the option itself would take."""
    settings = mount_config(
        "memory://", "/mnt", {}, config_file=None, environ={"MOUNTFS_CONFIG": ""}
    )

    text = shown(settings, option.field)

    if text is not None:
        option.read(text)


def test_a_name_in_a_file_that_is_wrong_leaves_the_directory(file: Path) -> None:
    """Who must unmount now is told how, beside what is wrong where."""
    file.write_text("[mounts.photos\n")

    with pytest.raises(UsageError, match=r":1: .*; or name the directory"):
        directory_of("photos")

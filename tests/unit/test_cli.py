"""The command line: every wrong one is one sentence and exit code 2."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mountfs
from mountfs import cli
from mountfs.commands._parser import layer_of
from mountfs.configuration.config import MountConfig


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Return the exit code and what stands on stderr."""
    code = cli.main(arguments)
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["mout", "s3://b", "/x"], "did you mean mount?"),
        (
            ["bogus"],
            "there are mount, umount, status, wait, flush, warm, check, recover",
        ),
        (["mount"], "nothing says what to mount: give a URL and a directory"),
        (["mount", "s3://b"], "the mount point of s3://b is missing"),
        (["mount", "no-such-mount"], "and no mount has that name: there is no"),
        (["mount", "--all", "s3://b"], "--all goes with neither a URL"),
        (["mount", "s3://b", "/x", "/y"], "one argument too many: '/y'"),
        (["mount", "--tll", "1", "s3://b", "/x"], "did you mean --ttl?"),
        (["mount", "--cache", "/c", "s3://b", "/x"], "did you mean --cache-"),
        (["mount", "s3://b", "/x", "--ttl"], "argument --ttl: expected one argument"),
        (["mount", "--ttl", "x", "s3://b", "/x"], "--ttl cannot be 'x'"),
        (["mount", "-o", "ttl=x", "s3://b", "/x"], "-o ttl cannot be 'x'"),
        (["mount", "-o", "bogus", "s3://b", "/x"], "-o bogus is not an option"),
        (["mount", "--bogus", "s3://b", "/x"], "not an option of `mountfs mount`\n"),
        (["--json", "features", "s3://b"], "write it behind `features`"),
        (["mount", "--read-only=yes", "s3://b", "/x"], "it takes no value, not 'yes'"),
        (["mount", "-o", "bogus", "s3://b", "/x"], "`mountfs mount --help` lists"),
        (["mount", "s3://b", ""], "the mount point has an empty name"),
        (["mount", "bucket", "/x"], "is not the URL of a store"),
        (["mount", "s3://", "/x"], "names no bucket"),
        (["mount", "--config", "/no/file", "s3://b", "/x"], "cannot read /no/file"),
        (["umount", ""], "the name that `mountfs umount` is given is empty"),
        (["wait", "/x", ""], "the name that `mountfs wait` is given is empty"),
        (["set"], "the following arguments are required: DIR|NAME;"),
        (["umount"], "the following arguments are required: DIR"),
        (["status", "/a", "/b"], "one argument too many: '/b'"),
        (["status", "/no/mount"], "/no/mount is not in a mount of mountfs"),
        (["wait"], "the following arguments are required: PATH"),
        (["flush"], "the following arguments are required: DIR"),
        (["flush", "/no/mount"], "/no/mount is not in a mount of mountfs"),
        (["umount", "--lasy", "/x"], "did you mean --lazy?"),
        (["features"], "the following arguments are required: URL"),
        (["features", "s3://"], "names no bucket"),
        (["features", "--ttl", "1", "memory://"], "--ttl is not an option of"),
        (["features", "--region", "x", "memory://"], "region"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says on one line what is wrong, and ends with 2."""
    code, said = run(capsys, *arguments)

    assert code == 2
    assert expected in said
    assert said.startswith("mountfs: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["status", "x"], ["umount", "x"], ["recover", "x"]]
)
def test_a_directory_that_is_gone_is_one_sentence(
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """One may stand in a directory that was removed, or in a mount that has ended."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    code, said = run(capsys, *arguments)

    assert code == 2
    assert said.startswith("mountfs: the directory that this is called from is gone")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--secret-key=hush"],
        ["--aws-secret-access-key", "hush"],
        ["--access-key=hush"],
        ["--session-token=hush"],
        ["--password=hush"],
        ["-o", "secret_key=hush"],
        ["-o", "aws_session_token=hush"],
    ],
)
def test_credentials_are_refused_and_not_repeated(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A secret on the command line is refused with the way that is safe."""
    code, said = run(capsys, "mount", "s3://b", "/x", *arguments)

    assert code == 2
    assert "put credentials where the AWS tools look for them" in said
    assert "hush" not in said


def test_the_version_is_that_of_the_package(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`mountfs --version` prints name and version."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mountfs {mountfs.__version__}\n"


@pytest.mark.parametrize("command", [[], ["mount"], ["umount"], ["features"]])
def test_help_is_there_for_every_command(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--help` explains every option."""
    assert cli.main([*command, "--help"]) == 0
    assert "usage: mountfs" in capsys.readouterr().out


def test_long_options_win_over_o() -> None:
    """`-o ttl=1 --ttl 2` is 2, wherever they stand."""
    parsed = cli.build_parser()[0].parse_args(
        ["mount", "--ttl", "2", "s3://b", "/x", "-o", "ttl=1,ro", "-o", "exclusive"]
    )

    layer = {name: setting.text for name, setting in layer_of(parsed).items()}

    assert layer == {"ttl": "2", "read_only": "", "exclusive": ""}


def test_features_are_printed_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Each operation has a line that says how it is done."""
    code = cli.main(["features", "--virtual", "none", "memory://"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0] == "memory:// (memory)"
    assert any(line.split() == ["copy", "native"] for line in lines)
    assert any("virtual, off (virtual_dir)" in line for line in lines)


def test_features_are_printed_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` has the same, with gates and limits apart."""
    code = cli.main(["features", "--json", "--virtual", "dir", "memory://"])

    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert document["features"] == ["virtual_dir"]
    assert document["operations"]["make_dir"] == {
        "how": "virtual",
        "gate": "virtual_dir",
        "is_on": True,
        "limits": [],
    }
    assert document["operations"]["make_link"]["is_on"] is False


def test_umount_of_what_is_not_mounted_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A directory that is no mount of ours is left alone."""
    code, said = run(capsys, "umount", str(tmp_path))

    assert code == 2
    assert said == f"mountfs: {tmp_path} is not mounted by mountfs\n"


def test_umount_of_a_foreign_mount_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """A mount of another file system is left alone."""
    code, said = run(capsys, "umount", "/proc")

    assert code == 2
    assert said == (
        "mountfs: /proc is a mount, but not one of mountfs (proc): use umount\n"
    )


@pytest.mark.parametrize("words", ["'umount', '/'", "'status', '/'", "'flush', '/'"])
def test_light_commands_do_not_load_the_heavy_libraries(words: str) -> None:
    """`mountfs umount` needs neither libfuse nor an SDK, and no event loop."""
    script = (
        f"import sys; from mountfs.cli import main; main([{words}]);"
        " print(sorted({'pyfuse3', 'boto3', 'dropbox', 'trio'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=60,
    )

    assert done.stdout == "[]\n"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """A closed pipe ends the command as a signal would, without a traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mountfs", "features", "memory://"],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_log_that_takes_nothing_does_not_change_the_exit_code(unbuffered: str) -> None:
    """It says how the command ended, whoever takes its words."""
    with Path("/dev/full").open("wb") as sink:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mountfs", "umount"],
            stderr=sink,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            check=False,
            timeout=60,
        )

    assert done.returncode == 2


def test_command_without_a_log_does_its_work() -> None:
    """Who starts it may have closed its standard error."""
    done = subprocess.run(
        ["sh", "-c", '"$0" -P -m mountfs --version 2>&-', sys.executable],
        stdout=subprocess.PIPE,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0
    assert done.stdout.startswith(b"mountfs ")


def test_all_mounts_with_a_name_are_mounted_whatever_one_of_them_is(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is started as if it were named alone; one that is wrong is told."""
    file = tmp_path / "mountfs.toml"
    file.write_text(
        "[mounts.a]\nurl = 'memory://a'\n"
        f"[mounts.b]\nurl = 'memory://b'\nmount-point = '{tmp_path}'\n"
    )
    started: list[tuple[str, list[str]]] = []

    def start(settings: MountConfig, arguments: list[str]) -> int:
        started.append((settings.url, arguments))
        return 0

    monkeypatch.setattr("mountfs.daemon.start", start)

    code, said = run(
        capsys, "mount", "--all", f"--config={file}", "--log-level", "debug"
    )

    assert code == 2
    assert said.startswith(f"mountfs: a: {file}:2: nothing says where to mount a")
    assert started == [
        ("memory://b", [f"--config={file}", "--log-level", "debug", "b"])
    ]


@pytest.mark.parametrize(
    "command",
    [
        *("umount", "status", "set", "wait", "flush", "warm", "trace", "metrics"),
        *("explain", "bundle"),
    ],
)
def test_a_name_stands_for_its_mount_point(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is said of a mount by its name is said of the place that the file has."""
    file = tmp_path / "mountfs.toml"
    file.write_text(
        f"[mounts.pics]\nurl = 'memory://a'\nmount-point = '{tmp_path}/mnt'\n"
    )
    monkeypatch.setenv("MOUNTFS_CONFIG", str(file))

    code, said = run(capsys, command, "pics")

    assert code == 2
    assert f"{tmp_path}/mnt is not" in said


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a mount named `pics` that is not mounted, where it is looked for."""
    (tmp_path / "store").mkdir()
    file = tmp_path / "mountfs.toml"
    file.write_text(
        f"[mounts.pics]\nurl = 'file://{tmp_path}/store'\n"
        f"mount-point = '{tmp_path}/mnt'\n"
        f"state-dir = '{tmp_path}/state'\ncache-dir = '{tmp_path}/cache'\n"
    )
    monkeypatch.setenv("MOUNTFS_CONFIG", str(file))
    monkeypatch.chdir(tmp_path)
    return file


def test_a_name_stands_for_its_store_where_nothing_is_mounted(
    named: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong in that store is found, and its state directory is looked at."""
    record = tmp_path / "store" / ".mountfs" / "links" / "none"
    record.parent.mkdir(parents=True)
    record.write_text('{"format":1,"names":{"gone":"1"}}')

    checked = run(capsys, "check", "pics")
    recovered = cli.main(["recover", "pics", "--json"])

    assert checked == (1, "")
    told = json.loads(capsys.readouterr().out)
    assert recovered == 0
    assert Path(told[0]["state_dir"]).parent == tmp_path / "state"


@pytest.mark.parametrize("command", ["check", "recover"])
def test_a_name_is_looked_for_in_the_file_that_is_given(
    command: str,
    named: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`--config` says where, and another name is no place either."""
    monkeypatch.setenv("MOUNTFS_CONFIG", "/dev/null")

    found = run(capsys, command, "pics", f"--config={named}")
    other = run(capsys, command, "pictures", f"--config={named}")

    assert found == (0, "")
    assert other[0] == 2
    assert "pictures " in other[1]


def test_a_state_directory_goes_before_a_mount_of_its_name(
    named: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file makes a command that somebody has written down mean something else."""
    (tmp_path / "pics" / "spool").mkdir(parents=True)

    assert cli.main(["recover", "pics", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert [each["state_dir"] for each in told] == [str(tmp_path / "pics")]


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        ("check", "the directory of the mount"),
        ("recover", "the URL of the store"),
        ("explain", "the directory of the mount"),
        ("status", "the directory of the mount"),
        ("umount", "the directory of the mount"),
    ],
)
def test_a_name_in_a_file_that_is_wrong_says_what_else_to_name(
    command: str, instead: str, named: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, and the sentence has the line; a directory is still one."""
    named.write_text("[mounts.pics\n")

    code, said = run(capsys, command, "pics")

    assert code == 2
    assert f"{named}:1: " in said
    assert f"; or name {instead}" in said
    (named.parent / "pics").mkdir()
    code, said = run(capsys, command, "pics")
    assert code == 2
    assert str(named) not in said

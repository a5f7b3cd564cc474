"""The files: every problem with its line, mounts with names, and who may write them."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountfs.configuration import config_file, effective
from mountfs.configuration.config import MountConfig, mount_config
from mountfs.configuration.settings import Setting
from mountfs.configuration.toml_lines import lines_of
from mountfs.errors import UsageError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a user's configuration files."""
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() or 1000)
    directory = tmp_path / "mountfs"
    directory.mkdir()
    return directory


def load(
    home: Path, target: str | None, mount_point: str | None = None, **given: str
) -> MountConfig:
    """Return the configuration of a mount as a user asks for it."""
    environ = {"XDG_CONFIG_HOME": str(home.parent)}
    layer = {name: Setting(text, f"--{name}") for name, text in given.items()}
    return mount_config(target, mount_point, layer, config_file=None, environ=environ)


def test_every_key_has_its_line() -> None:
    """Headers, dotted keys, values over several lines and quoted names are found."""
    text = '''# a comment
[mount]
ttl = 1  # here = not
virtual = [
  "dir",  # [mounts.no]
  "link",
]
region = """
[mounts.neither]
ttl = 2
"""
[mounts."s3://bucket"]
"cache-size" = '1G'
a.b.c = 1
x = { y = { z = 1 } }
[[list]]
one = 1
'''

    assert lines_of(text) == {
        ("mount",): 2,
        ("mount", "ttl"): 3,
        ("mount", "virtual"): 4,
        ("mount", "region"): 8,
        ("mounts",): 12,
        ("mounts", "s3://bucket"): 12,
        ("mounts", "s3://bucket", "cache-size"): 13,
        ("mounts", "s3://bucket", "a"): 14,
        ("mounts", "s3://bucket", "a", "b"): 14,
        ("mounts", "s3://bucket", "a", "b", "c"): 14,
        ("mounts", "s3://bucket", "x"): 15,
        ("mounts", "s3://bucket", "x", "y"): 15,
        ("mounts", "s3://bucket", "x", "y", "z"): 15,
        ("list",): 16,
        ("list", "one"): 17,
    }


def test_a_value_over_very_many_lines_takes_no_time() -> None:
    """What follows has no lines then, and is read all the same."""
    text = "a = 1\nb = [\n" + "1,\n" * 20_000 + "]\nc = 1\n"

    assert lines_of(text) == {("a",): 1}


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 5000 + "]" * 5000, "[" + "a." * 2000 + "b]"]
)
def test_a_file_that_is_nested_too_deeply_is_refused(tmp_path: Path, text: str) -> None:
    """With a sentence."""
    path = tmp_path / "mountfs.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=str(path)):
        config_file.read(path)


@given(st.lists(st.sampled_from(["", "# x", "[t]", "v = [", "1,", "]", 'w = "]"'])))
def test_no_text_is_too_strange_for_lines(lines: list[str]) -> None:
    """What the parser takes has a line for each of its keys."""
    text = "\n".join(lines)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return

    assert {(name,) for name in document} <= set(lines_of(text))


def test_everything_wrong_is_told_with_its_line(home: Path) -> None:
    """Not only the first problem, and in the order of the lines."""
    path = home / "config.toml"
    path.write_text(
        "tll = 1\n"
        "[mount]\n"
        "cache_sise = '1G'\n"
        "ttl = 1\n"
        "virtual = [1]\n"
        "[mounts.a]\n"
        "url = 's4://bucket'\n"
        "mount-point = 7\n"
        "cache-size = '1G'\n"
        "cache_size = '2G'\n"
        "[mounts.'no name']\n"
        "[mountss]\n"
    )

    found = config_file.examine(path)

    told = [each.removeprefix(f"{path}:") for each in found.problems]
    lines = [int(each.partition(":")[0]) for each in told]
    assert lines == [1, 3, 5, 8, 10, 11, 12]
    assert "did you mean cache-size?" in told[1]
    assert "cache_size stands twice in [mounts.a]" in told[4]
    assert "did you mean mounts?" in told[6]
    with pytest.raises(UsageError, match=r"and 6 more: see `mountfs config check"):
        config_file.read(path)


def test_what_stands_above_an_error_of_syntax_is_checked_too(home: Path) -> None:
    """The parser stops at the first error; we do not."""
    path = home / "config.toml"
    path.write_text("[mount]\ntll = 1\nread-only = yes\n")

    first, second = config_file.examine(path).problems

    assert first.startswith(f"{path}:2: tll in [mount] is not an option; did you mean")
    assert second == f"{path}:3: this is not valid TOML: Invalid value"


def test_a_name_stands_for_url_and_mount_point(home: Path) -> None:
    """`[mounts.NAME]` has both, and options over those of its URL and of all."""
    (home / "config.toml").write_text(
        "[mount]\nttl = 1\nnames-max = 1001\nregion = 'r'\n"
        "[mounts.'s3://bucket']\nttl = 2\nnames-max = 1002\n"
        "[mounts.photos]\nurl = 's3://bucket/pre'\nmount-point = '/mnt/p'\nttl = 3\n"
    )

    loaded = load(home, "photos")

    assert (loaded.url, loaded.mount_point) == ("s3://bucket/pre", Path("/mnt/p"))
    assert (loaded.ttl_s, loaded.names_max) == (3, 1002)
    assert loaded.store_options["region"] == "r"
    assert load(home, "photos", ttl="4").ttl_s == 4
    assert load(home, "photos", "/mnt/q").mount_point == Path("/mnt/q")


def test_a_file_of_its_own_is_named_like_the_mount(home: Path) -> None:
    """NAME.toml has `url` and `mount-point` on top, and lies over the general file."""
    (home / "config.toml").write_text("[mount]\nttl = 1\nnames-max = 1001\n")
    (home / "photos.toml").write_text(
        "url = 'gs://bucket'\nmount-point = '/mnt/p'\n"
        "[mount]\nttl = 3\nendpoint-url = 'http://localhost:1'\n"
    )

    loaded = load(home, "photos")

    assert (loaded.ttl_s, loaded.names_max) == (3, 1001)
    assert loaded.store_options == {"endpoint_url": "http://localhost:1"}


def test_a_file_may_be_all_there_is_to_say(home: Path) -> None:
    """`mountfs mount --config FILE` needs neither URL nor directory."""
    path = home / "x.toml"
    path.write_text("url = 'memory://'\nmount-point = '/mnt/p'\n[mount]\nttl = 3\n")

    loaded = mount_config(None, None, {}, config_file=path, environ={})

    assert (loaded.url, loaded.ttl_s) == ("memory://", 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("foto", "did you mean photos?"),
        ("photo", "did you mean photos?"),
        ("archive", "archive has no url: add url ="),
        ("relative", ":9: mount-point cannot be 'mnt': it takes an absolute path"),
        ("stranger", ":15: mount-point cannot be '~no-such-user/x': it takes an"),
        ("slip", ":18: this version knows no s4:// URLs"),
        ("nowhere", ":11: nothing says where to mount nowhere: add"),
        ("twice", "there are two mounts named twice"),
        ("empty", "empty.toml has no url"),
        ("../photos", "is not the URL of a store"),
    ],
)
def test_a_wrong_name_is_explained(home: Path, name: str, expected: str) -> None:
    """The sentence says where was looked, or what is missing there."""
    (home / "config.toml").write_text(
        "[mounts.photos]\nurl = 'memory://'\nmount-point = '/mnt'\n"
        "[mounts.archive]\nmount-point = '/mnt'\n"
        "[mounts.relative]\nurl = 'memory://'\n\nmount-point = 'mnt'\n"
        "[mounts.nowhere]\nurl = 'memory://'\n"
        "[mounts.twice]\nurl = 'memory://'\n"
        "[mounts.stranger]\nmount-point = '~no-such-user/x'\nurl = 'memory://'\n"
        "[mounts.slip]\nurl = 's4://bucket'\n"
    )
    (home / "twice.toml").write_text("url = 'memory://'\n")
    (home / "empty.toml").write_text("[mount]\n")

    with pytest.raises(UsageError) as caught:
        load(home, name)

    assert expected in str(caught.value)


def test_all_names_are_known(home: Path) -> None:
    """Those of the general file come first, then each file of its own."""
    (home / "config.toml").write_text("[mounts.b]\n[mounts.'s3://bucket']\n")
    (home / "a.toml").write_text("url = 'memory://'\n")
    environ: Mapping[str, str] = {"XDG_CONFIG_HOME": str(home.parent)}

    assert [each.name for each in effective.named_mounts(None, environ)] == ["b", "a"]
    (home / "c.toml").write_text("this is no TOML")
    assert effective.all_names(None, environ) == ["b", "a", "c"]


def test_a_name_means_its_mount_point(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To `umount` and `status`; what is in no file has none."""
    monkeypatch.setenv("HOME", str(home))
    (home / "a.toml").write_text("url = 'memory://'\nmount-point = '~/a'\n")
    environ: Mapping[str, str] = {"XDG_CONFIG_HOME": str(home.parent)}

    assert effective.mount_point_of("a", None, environ) == str(home / "a")
    assert effective.mount_point_of("b", None, environ) is None


@pytest.mark.parametrize(
    ("mode", "is_taken"), [(0o644, True), (0o664, True), (0o666, False), (0o602, False)]
)
def test_a_file_that_others_can_change_is_refused(
    tmp_path: Path, mode: int, is_taken: bool
) -> None:
    """Who can write it decides where the daemon writes. (The group here is root's.)"""
    path = tmp_path / "mountfs.toml"
    path.write_text("[mount]\nttl = 2\n")
    path.chmod(mode)

    if is_taken:
        assert config_file.read(path).general["ttl"].text == "2"
    else:
        with pytest.raises(UsageError, match=r"can be changed by other users.*chmod"):
            config_file.read(path)

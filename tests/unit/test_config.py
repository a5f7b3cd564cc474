"""The configuration: where values come from, which win, and every wrong one."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mountfs.cli import build_parser
from mountfs.commands._parser import layer_of
from mountfs.configuration import config, settings
from mountfs.configuration.config import MountConfig
from mountfs.configuration.fstab import own_pairs
from mountfs.configuration.options import OPTIONS, Option
from mountfs.configuration.settings import Setting
from mountfs.configuration.shown import shown
from mountfs.configuration.values import MINIMUM_CACHE_SIZE
from mountfs.errors import UsageError
from mountfs.storage.types import Features, OfflinePolicy

NOTHING: Mapping[str, str] = {}


def load(
    *pairs: tuple[str, str],
    url: str = "s3://bucket/pre",
    file: Path | None = None,
    environ: Mapping[str, str] = NOTHING,
) -> MountConfig:
    """Return the configuration for options as on the command line."""
    given = {name.replace("-", "_"): Setting(text, f"--{name}") for name, text in pairs}
    environ = {"MOUNTFS_CONFIG": "/dev/null", **environ}
    return config.mount_config(url, "/mnt/x", given, config_file=file, environ=environ)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An empty TOML file."""
    path = tmp_path / "mountfs.toml"
    path.write_text("")
    return path


def test_defaults_are_those_of_the_manual() -> None:
    """Without options a mount has the documented defaults."""
    loaded = load()

    assert loaded.features == Features.for_mounts()
    assert (loaded.ttl_s, loaded.exclusive, loaded.read_only) == (1.0, False, False)
    assert (loaded.uid, loaded.gid, loaded.umask) == (None, None, None)
    assert (loaded.file_mode, loaded.dir_mode) == (0o644, 0o755)
    assert 0 < loaded.cache_size <= 10 << 30
    assert (loaded.durability, loaded.log_level, loaded.log_file) == (
        "store",
        "info",
        None,
    )
    assert loaded.offline is OfflinePolicy.WAIT
    assert loaded.store_options == {}


def test_each_place_wins_over_the_one_before(file: Path) -> None:
    """Options win over the environment, which wins over the file."""
    file.write_text("[mount]\nttl = 2\nregion = 'file'\ncache-size = '1G'\n")
    environ = {"MOUNTFS_TTL": "3", "MOUNTFS_REGION": "environment"}

    loaded = load(("ttl", "4"), file=file, environ=environ)

    assert loaded.ttl_s == 4
    assert loaded.store_options["region"] == "environment"
    assert loaded.cache_size == 1 << 30


PLACES = (
    "AWS_ENDPOINT_URL",
    "[mount]",
    '[mounts."s3://bucket"]',
    "[mounts.photos]",
    "MOUNTFS_ENDPOINT_URL",
    "-o",
    "--endpoint-url",
)
"""All places where a setting can stand, the later ones winning."""


@pytest.mark.parametrize("upto", range(1, len(PLACES) + 1))
def test_the_places_win_in_the_order_of_the_manual(file: Path, upto: int) -> None:
    """Whatever is said in the last of some places counts."""
    texts = {place: f"http://{at}.example" for at, place in enumerate(PLACES[:upto])}
    environ = {name: texts[name] for name in PLACES if name in texts and "_" in name}
    given = settings.options_layer(
        [("endpoint-url", texts["-o"])] if "-o" in texts else []
    )
    if "--endpoint-url" in texts:
        given["endpoint_url"] = Setting(texts["--endpoint-url"], "--endpoint-url")
    lines = []
    for section in ("[mount]", '[mounts."s3://bucket"]', "[mounts.photos]"):
        lines.append(section)
        if section in texts:
            lines.append(f'endpoint-url = "{texts[section]}"')
    file.write_text("\n".join([*lines, 'url = "s3://bucket/photos"']))

    loaded = config.mount_config(
        "photos", "/mnt/x", given, config_file=file, environ=environ
    )

    assert loaded.store_options["endpoint_url"] == f"http://{upto - 1}.example"


def test_the_environment_is_in_no_text_of_the_configuration() -> None:
    """It has the secrets of all programs, and a log is soon written."""
    assert "hush" not in repr(load(environ={"AWS_SECRET_ACCESS_KEY": "hush"}))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_a_variable(option: Option) -> None:
    """MOUNTFS_ and its name in capitals, as the manual has it."""
    variable = "MOUNTFS_" + option.name.replace("-", "_").upper()

    layer = settings.environment_layer({variable: "x"})

    assert layer == {option.field: Setting("x", variable)}


def test_the_longest_section_that_covers_the_url_wins(file: Path) -> None:
    """A section holds for its URL and what lies below it, the longest first."""
    file.write_text(
        """
        [mount]
        ttl = 1
        [mounts."s3://bucket"]
        ttl = 2
        [mounts."s3://bucket/pre/"]
        ttl = 3
        [mounts."s3://bucket/pre/deep"]
        ttl = 4
        """
    )

    assert load(url="s3://other", file=file).ttl_s == 1
    assert load(url="s3://bucket", file=file).ttl_s == 2
    assert load(url="s3://bucket/pre", file=file).ttl_s == 3
    assert load(url="s3://bucket/prefix", file=file).ttl_s == 2


def test_toml_values_keep_their_types(file: Path) -> None:
    """Truth values, numbers and lists may stand in the file as such."""
    file.write_text(
        "[mount]\nread-only = true\nexclusive = false\nttl = 0.5\n"
        "virtual = ['dir', 'virtual_link']\nstorage_class = 'STANDARD_IA'\n"
    )

    loaded = load(file=file)

    assert (loaded.read_only, loaded.exclusive, loaded.ttl_s) == (True, False, 0.5)
    assert loaded.features == Features(virtual_dir=True, virtual_link=True)
    assert loaded.store_options == {"storage_class": "STANDARD_IA"}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16M", 16 << 20),
        ("1G", 1 << 30),
        ("1.5GiB", 3 << 29),
        ("2t", 2 << 40),
        ("33554432", 32 << 20),
        ("20000K", 20000 << 10),
    ],
)
def test_sizes_have_units(text: str, size: int) -> None:
    """Units are powers of 1024."""
    assert load(("cache-size", text)).cache_size == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1s", 1), ("500ms", 0.5), ("5m", 300), ("1h", 3600)],
)
def test_times_have_units(text: str, seconds: float) -> None:
    """A bare number is seconds."""
    assert load(("ttl", text)).ttl_s == seconds


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("all", Features.all()),
        ("none", Features()),
        ("dir", Features(virtual_dir=True)),
        ("dir:link", Features(virtual_dir=True, virtual_link=True)),
        (
            "virtual-move,loose_operation",
            Features(virtual_move=True, loose_operation=True),
        ),
    ],
)
def test_gates_are_named_with_or_without_prefix(text: str, features: Features) -> None:
    """`--virtual` takes all, none or a list."""
    assert load(("virtual", text)).features == features


@pytest.mark.parametrize(
    ("pairs", "name"),
    [
        ([("umask", "777")], "--umask"),
        ([("umask", "666")], "--umask"),
        ([("file-mode", "0")], "--file-mode"),
        ([("dir-mode", "000")], "--dir-mode"),
        ([("umask", "777"), ("file-mode", "600")], "--umask"),
    ],
)
def test_options_lock_nobody_out(pairs: list[tuple[str, str]], name: str) -> None:
    """A default of 000 would make every object without a mode useless: refused."""
    with pytest.raises(UsageError, match=f"^{name} leaves"):
        load(*pairs)


@pytest.mark.parametrize(
    ("pairs", "file_mode", "dir_mode"),
    [
        ([("umask", "077")], 0o600, 0o700),
        ([("umask", "0")], 0o666, 0o777),
        ([("umask", "027"), ("file-mode", "0444")], 0o444, 0o750),
        ([("dir-mode", "700")], 0o644, 0o700),
    ],
)
def test_modes_follow_the_umask_unless_given(
    pairs: list[tuple[str, str]], file_mode: int, dir_mode: int
) -> None:
    """A mode that is given stands; else the umask decides."""
    loaded = load(*pairs)

    assert (loaded.file_mode, loaded.dir_mode) == (file_mode, dir_mode)


@pytest.mark.parametrize(
    "text", ["*.swp,.~lock.*,4913", "*.swp:.~lock.*:4913", " *.swp , .~lock.*,,4913 "]
)
def test_patterns_are_separated(text: str) -> None:
    """By commas, or by colons where a comma means something else."""
    loaded = load(("local-only", text), ("durability", "journal"))
    assert loaded.local_only == ("*.swp", ".~lock.*", "4913")
    assert shown(loaded, "local_only") == "*.swp,.~lock.*,4913"


def test_an_empty_pattern_takes_back_those_of_a_file(file: Path) -> None:
    """And such a mount need not have the journal."""
    file.write_text("[mount]\nlocal_only = ['*.swp', '*.tmp']\n")
    loaded = load(("local-only", ""), file=file)
    assert loaded.local_only == ()
    assert shown(loaded, "local_only") is None


@pytest.mark.parametrize("durability", [(), (("durability", "store"),)])
def test_patterns_need_the_journal(
    file: Path, durability: tuple[tuple[str, str], ...]
) -> None:
    """The place that says them is named."""
    with pytest.raises(UsageError, match="--local-only needs durability=journal"):
        load(("local-only", "*.swp"), *durability)
    file.write_text("[mount]\n\nlocal-only = ['*.swp']\n")
    with pytest.raises(UsageError, match=r":3: local-only in \[mount\] needs"):
        load(*durability, file=file)


def test_a_list_may_be_given_several_times() -> None:
    """In `-o` as well, of which the long option wins."""
    parser, _ = build_parser()
    words = ["mount", "-o", "local-only=a:b,durability=journal,local_only=c", "u", "d"]
    layer = layer_of(parser.parse_args(words))
    assert layer["local_only"].text == "a:b,c"
    layer = layer_of(parser.parse_args([*words, "--local-only=x", "--local-only=y,z"]))
    assert layer["local_only"].text == "x,y,z"


def test_owners_may_be_names() -> None:
    """Users and groups are numbers or names of this host."""
    loaded = load(("uid", "root"), ("gid", "1234"))

    assert (loaded.uid, loaded.gid) == (0, 1234)


def test_a_customer_key_file_chooses_its_encryption(tmp_path: Path) -> None:
    """`--sse-customer-key-file` alone means `--sse customer`."""
    key = tmp_path / "key"

    options = load(("sse-customer-key-file", str(key))).store_options

    assert options == {"sse": "customer", "sse_customer_key_file": str(key)}


def test_s3_options_of_the_environment_do_not_disturb_other_stores() -> None:
    """What the environment says for S3 is nothing to a directory."""
    environ = {"MOUNTFS_REGION": "eu-west-1"}

    assert load(url="file:///srv", environ=environ).store_options == {}


def test_relative_paths_are_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon leaves the directory it was started in, so no path depends on it."""
    monkeypatch.chdir(tmp_path)

    assert load(("cache-dir", "cache")).cache_dir == tmp_path / "cache"


BAD_OPTIONS = [
    ("ttl", "soon", "a time such as"),
    ("ttl", "-1", "a time such as"),
    ("ttl", "9999999h", "at most a year"),
    ("ttl", "nan", "a time such as"),
    ("cache-size", "lots", "a size such as"),
    ("cache-size", "-1G", "a size such as"),
    ("cache-size", "1M", "at least 16 MiB"),
    ("cache-dir", "", "a path"),
    ("umask", "8", "an octal number"),
    ("umask", "7777", "between 000 and 777"),
    ("file-mode", "rw", "an octal number"),
    ("uid", "nobody-here", "a user's number"),
    ("uid", "4294967295", "below 4294967295"),
    ("gid", "no-such-group", "a group's number"),
    ("virtual", "dirs", "did you mean dir?"),
    ("virtual", "everything", "they are loose_operation"),
    ("durability", "never", "it takes store or journal"),
    ("local-only", "*.swp,d/*.tmp", "patterns for names"),
    ("offline", "never", "wait, eio or cached"),
    ("log-level", "loud", "debug, info, warning or error"),
    ("log-file", "", "a path"),
    ("endpoint-url", "localhost:8333", "a URL such as"),
    ("endpoint-url", "https://key:secret@host", "without credentials"),
    ("region", "", "a word"),
    ("profile", "a\nb", "a word"),
    ("expected-bucket-owner", "12", "twelve digits"),
    ("addressing-style", "dns", "auto, path or virtual"),
    ("sse", "rot13", "AES256, aws:kms"),
    ("checksums", "maybe", "true or false"),
    ("read-only", "maybe", "true or false"),
]


@pytest.mark.parametrize(("name", "text", "expected"), BAD_OPTIONS)
def test_a_bad_value_is_named_with_what_is_taken(
    name: str, text: str, expected: str
) -> None:
    """The sentence names the option, the value and what it takes."""
    with pytest.raises(UsageError) as caught:
        load((name, text))

    assert f"--{name} cannot be {text!r}" in str(caught.value)
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("no-sign-request", "true"), ("profile", "p")], "exclude each other"),
        ([("sse-kms-key-id", "k")], "needs --sse aws:kms"),
        ([("sse", "AES256"), ("sse-kms-key-id", "k")], "needs --sse aws:kms"),
        ([("sse", "AES256"), ("sse-customer-key-file", "/k")], "or no --sse"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    pairs: list[tuple[str, str]], expected: str
) -> None:
    """No option is dropped silently for another."""
    with pytest.raises(UsageError, match=expected):
        load(*pairs)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("bucket", "is not the URL of a store"),
        ("", "is not the URL of a store"),
        ("/srv/data", "is not the URL of a store"),
        ("s4://bucket", "knows no s4:// URLs"),
        ("http://bucket", "there are file://, memory://, s3://"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("s3://key:secret@bucket", "must not carry credentials"),
        ("file://srv/data", "needs an absolute path: file:///srv/data"),
        ("ftp:///", "knows no ftp:// URLs"),
    ],
)
def test_a_wrong_url_is_explained(url: str, expected: str) -> None:
    """Each wrong URL gets a sentence that shows how it should look."""
    with pytest.raises(UsageError) as caught:
        load(url=url)

    assert expected in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[mount", "is not valid TOML"),
        ("[mount]\nttll = 1", "did you mean ttl?"),
        ("[mount]\nttl = 'x'", "ttl in [mount] cannot be"),
        ("[mount]\nttl = {}", "must be a string"),
        ("[mount]\nttl = [1]", "must be a string"),
        ("[mounts.'s3://other']\nbogus = 1", "is not an option"),
        ("mount = 1", "must be a table"),
        ("mounts = 1", "must be a table"),
        ("[moun]\nttl = 1", "did you mean mount?"),
        ("[mount]\nsecret_key = 'x'", "put credentials where"),
    ],
)
def test_a_wrong_file_is_explained(file: Path, text: str, expected: str) -> None:
    """The sentence names the file and the place in it."""
    file.write_text(text)

    with pytest.raises(UsageError) as caught:
        load(file=file)

    assert expected in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_that_is_named_must_be_readable(tmp_path: Path) -> None:
    """A missing file is an error if the user named it."""
    with pytest.raises(UsageError, match=r"cannot read .*: No such file"):
        load(file=tmp_path / "missing.toml")


def test_a_file_that_is_not_text_is_explained(file: Path) -> None:
    """TOML is UTF-8."""
    file.write_bytes(b"\xff\xfe")

    with pytest.raises(UsageError, match="is not UTF-8 text"):
        load(file=file)


def test_fstab_words_are_left_to_others() -> None:
    """`-o` takes fstab's own words without acting upon them."""
    pairs = settings.split_options("rw,_netdev,nofail,x-systemd.automount,ro,ttl=2s")

    layer = settings.options_layer(own_pairs(pairs))

    assert {name: setting.text for name, setting in layer.items()} == {
        "read_only": "",
        "ttl": "2s",
    }


def test_a_backslash_keeps_a_comma_in_an_option() -> None:
    """Values with a comma can stand in `-o`."""
    assert settings.split_options(r"cache-dir=/a\,b,ro") == [
        ("cache-dir", "/a,b"),
        ("ro", ""),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cachesize", "did you mean cache-size?"),
        ("aws-secret-access-key", "put credentials where"),
    ],
)
def test_an_unknown_word_in_o_is_explained(name: str, expected: str) -> None:
    """The sentence has a suggestion if something is near."""
    with pytest.raises(UsageError) as caught:
        settings.options_layer([(name, "x")])

    assert expected in str(caught.value)


def test_foreign_variables_with_our_prefix_are_let_be() -> None:
    """Scripts may keep variables of their own under the prefix."""
    assert settings.environment_layer(
        {"MOUNTFS_WHATEVER": "1", "MOUNTFS_TTL": "2"}
    ) == {"ttl": Setting("2", "MOUNTFS_TTL")}


def test_the_default_cache_leaves_room_on_the_disk(tmp_path: Path) -> None:
    """Without a size the cache takes at most 80 % of what is free."""
    size = config.default_cache_size(tmp_path / "not" / "there" / "yet")

    assert MINIMUM_CACHE_SIZE <= size <= config.DEFAULT_CACHE_SIZE


def test_a_cache_leaves_some_of_the_disk_to_others(tmp_path: Path) -> None:
    """Without a size the floor is small beside the disk; 0 switches it off."""
    floor = config.default_min_free(tmp_path / "not" / "there" / "yet")

    assert 0 < floor <= config.MIN_FREE_MAX
    assert load(("min-free", "0")).min_free == 0
    assert load(("min-free", "2G")).min_free == 2 << 30


def test_users_keep_their_directories_under_xdg(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who is not root gets the directories of the XDG specification."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    environ = {"XDG_CACHE_HOME": str(tmp_path / "c"), "XDG_STATE_HOME": "relative"}
    monkeypatch.setenv("HOME", str(tmp_path))

    loaded = load(environ=environ)

    assert loaded.cache_dir == tmp_path / "c" / "mountfs"
    assert loaded.state_dir == tmp_path / ".local/state/mountfs"


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_endpoint_of_the_aws_tools_is_known(name: str, file: Path) -> None:
    """What the SDK would take by itself counts, below everything of ours."""
    environ = {name: "http://sdk.example"}

    assert load(environ=environ).store_options["endpoint_url"] == "http://sdk.example"
    assert load(url="memory://", environ=environ).store_options == {}
    file.write_text("[mount]\nendpoint-url = 'http://file.example'\n")
    assert load(file=file, environ=environ).store_options == {
        "endpoint_url": "http://file.example"
    }
    ignored = {**environ, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}
    assert load(environ=ignored).store_options == {}


@pytest.mark.parametrize("text", ["nonsense", "http://user:hush@host"])
def test_a_wrong_endpoint_of_the_aws_tools_is_one_sentence(text: str) -> None:
    """The variable is named, as for one of ours."""
    with pytest.raises(UsageError, match=r"AWS_ENDPOINT_URL cannot be .*: it takes"):
        load(environ={"AWS_ENDPOINT_URL": text})


def test_a_file_url_may_name_this_host() -> None:
    """RFC 8089 allows `localhost`."""
    assert load(url="file://localhost/srv").url == "file://localhost/srv"


def test_an_option_outside_of_a_section_is_explained(file: Path) -> None:
    """A name that would be right in a section is not called a section."""
    file.write_text("cache-size = '1G'\n")

    with pytest.raises(UsageError, match=r"put \[mount\] above it"):
        load(file=file)

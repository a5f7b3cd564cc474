"""The configuration of a mount: defaults < TOML file < environment < options.

Everything is read once, checked once and frozen. Nothing below `mountfs.mount` sees
this module, and nothing but this module reads the environment. What only the running
system can tell (is the mount point empty?) is checked by `mountfs.checks`.
"""

import os
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar

from mountfs.backends import STORES
from mountfs.errors import UsageError
from mountfs.options import (
    BY_FIELD,
    MINIMUM_CACHE_SIZE,
    OPTIONS,
    BadValue,
    Option,
    refuse_credentials,
    suggestion,
)
from mountfs.storage.types import Features, OfflinePolicy

SCHEMES = tuple(scheme for scheme, opener in STORES.items() if opener is not None)
DEFAULT_CACHE_SIZE = 10 << 30
MIN_FREE_MAX = 1 << 30
DEFAULT_TTL_S = 1.0
DEFAULT_NAMES_MAX = 1_000_000
ENVIRONMENT_PREFIX = "MOUNTFS_"

# fstab words that mean nothing to us: mount(8) and systemd act upon them.
# fmt: off
FSTAB_WORDS = frozenset((
    "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "rw",
    "nofail", "_netdev", "suid", "nosuid", "dev", "nodev", "exec", "async",
    "relatime", "nodiratime",
))
# fmt: on

CONTRADICTIONS = (
    ("no_sign_request", "profile"),
    ("no_sign_request", "requester_pays"),
)

T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Setting:
    """The text that somebody gave for an option, and where, for the error."""

    text: str
    source: str


Layer = Mapping[str, Setting]
"""Settings by field name, all from one place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """What it takes to open a store."""

    url: str
    store_options: Mapping[str, object]
    features: Features


@dataclass(frozen=True, slots=True, kw_only=True)
class MountConfig:
    """All that a mount needs to know. Sizes are bytes, paths absolute."""

    url: str
    mount_point: Path
    store_options: Mapping[str, object]
    """For `open_store`, under the names of its parameters; only what was given."""
    features: Features
    ttl_s: float
    names_max: int
    """How many names are kept in memory."""
    exclusive: bool
    read_only: bool
    allow_other: bool
    noexec: bool
    noatime: bool
    uid: int | None
    gid: int | None
    umask: int | None
    file_mode: int
    """The permission bits of files that have none, the umask taken away."""
    dir_mode: int
    cache_dir: Path
    cache_size: int
    min_free: int
    """How much of the cache's disk is to stay free; 0 for no such limit."""
    state_dir: Path
    durability: str
    """When a change returns: `store` or `journal`."""
    offline: OfflinePolicy
    lazy: bool
    conflict: str
    """What becomes of a commit that lost a race: copy, fail or overwrite."""
    log_level: str
    log_file: Path | None
    """None: stderr in the foreground, a file in the state directory else."""


def store_config(
    url: str, given: Layer, *, config_file: Path | None, environ: Mapping[str, str]
) -> StoreConfig:
    """Return what it takes to open `url`. Raises `UsageError`."""
    url = checked_url(url)
    values = _read_layers(url, given, config_file, environ)
    return StoreConfig(
        url=url,
        store_options=_store_options(url, values, given),
        features=_value(values, "virtual", Features, Features.for_mounts()),
    )


def mount_config(
    url: str,
    mount_point: str,
    given: Layer,
    *,
    config_file: Path | None,
    environ: Mapping[str, str],
) -> MountConfig:
    """Return the whole configuration of one mount. Raises `UsageError`.

    `given` are the options of the command line; they win over the environment, which
    wins over the file.
    """
    url = checked_url(url)
    if not mount_point:
        raise UsageError("the mount point has an empty name: name an empty directory")
    values = _read_layers(url, given, config_file, environ)
    umask = _value(values, "umask", int, None)
    cache_dir = _value(values, "cache_dir", Path, _default_dir("cache", environ))
    return MountConfig(
        url=url,
        mount_point=Path(os.path.realpath(mount_point)),
        store_options=_store_options(url, values, given),
        features=_value(values, "virtual", Features, Features.for_mounts()),
        ttl_s=_value(values, "ttl", float, DEFAULT_TTL_S),
        names_max=_value(values, "names_max", int, DEFAULT_NAMES_MAX),
        exclusive=_value(values, "exclusive", bool, False),
        read_only=_value(values, "read_only", bool, False),
        allow_other=_value(values, "allow_other", bool, False),
        noexec=_value(values, "noexec", bool, False),
        noatime=_value(values, "noatime", bool, False),
        uid=_value(values, "uid", int, None),
        gid=_value(values, "gid", int, None),
        umask=umask,
        file_mode=_mode(values, "file_mode", umask, 0o666),
        dir_mode=_mode(values, "dir_mode", umask, 0o777),
        cache_dir=cache_dir,
        cache_size=_value(values, "cache_size", int, None)
        or default_cache_size(cache_dir),
        min_free=_value(values, "min_free", int, default_min_free(cache_dir)),
        state_dir=_value(values, "state_dir", Path, _default_dir("state", environ)),
        durability=_value(values, "durability", str, "store"),
        lazy=_value(values, "lazy", bool, False),
        offline=OfflinePolicy(_value(values, "offline", str, "wait")),
        conflict=_value(values, "conflict", str, "copy"),
        log_level=_value(values, "log_level", str, "info"),
        log_file=_value(values, "log_file", Path, None),
    )


def checked_url(url: str) -> str:
    """Return the URL of a store, if it looks like one. Raises `UsageError`."""
    scheme, colon, rest = url.partition("://")
    if not colon:
        raise UsageError(
            f"{url!r} is not the URL of a store: write s3://BUCKET/PREFIX,"
            " file:///DIRECTORY or memory://"
        )
    if scheme not in SCHEMES:
        raise UsageError(
            f"this version knows no {scheme}:// URLs{suggestion(scheme, SCHEMES)};"
            f" there are {', '.join(each + '://' for each in SCHEMES)}"
        )
    if scheme in ("s3", "gs"):
        _check_bucket(url, rest)
    if scheme == "file" and not rest.removeprefix("localhost").startswith("/"):
        raise UsageError(
            f"{url!r} needs an absolute path: file:///{rest or 'DIRECTORY'}"
        )
    return url


def _check_bucket(url: str, rest: str) -> None:
    bucket = rest.partition("/")[0]
    if not bucket:
        scheme = url.partition("://")[0]
        raise UsageError(f"{url!r} names no bucket: write {scheme}://BUCKET/PREFIX")
    if "@" in bucket:
        raise UsageError(
            "a URL must not carry credentials, because every user of this host can"
            " read a command line: put them where the tools of the service look for"
            " them"
        )


def options_layer(pairs: Iterable[tuple[str, str]]) -> dict[str, Setting]:
    """Return the layer of `(name, text)` pairs as given to `-o`, in fstab's words."""
    layer: dict[str, Setting] = {}
    for name, text in pairs:
        if not name or name in FSTAB_WORDS or name.startswith(("x-", "comment")):
            continue
        option = _option("read-only" if name == "ro" else name, f"-o {name}")
        layer[option.field] = Setting(text, f"-o {name}")
    return layer


def split_options(text: str) -> list[tuple[str, str]]:
    """Return the pairs in `k=v,k,...`; a backslash keeps a comma."""
    words = [""]
    characters = iter(text)
    for character in characters:
        if character == "\\":
            words[-1] += next(characters, "\\")
        elif character == ",":
            words.append("")
        else:
            words[-1] += character
    pairs = (word.strip().partition("=") for word in words)
    return [(name, value) for name, _, value in pairs]


def environment_layer(environ: Mapping[str, str]) -> dict[str, Setting]:
    """Return the settings that stand in variables such as MOUNTFS_CACHE_SIZE.

    Other variables with that prefix are let be, unless one looks like a slip.
    """
    layer: dict[str, Setting] = {}
    variables = {f"{ENVIRONMENT_PREFIX}{field.upper()}": field for field in BY_FIELD}
    for name, text in environ.items():
        if name in variables:
            layer[variables[name]] = Setting(text, name)
    return layer


def sdk_layer(url: str, environ: Mapping[str, str]) -> dict[str, Setting]:
    """Return the endpoint that the SDK would take from the environment by itself.

    It is part of what store this is: were it not known here, a file that one service
    refused would be sent to the next one that has a bucket of that name.
    """
    if url.startswith("gs://"):
        emulator = environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
        full = emulator if "://" in emulator else f"http://{emulator}"
        return (
            {"endpoint_url": Setting(full, "STORAGE_EMULATOR_HOST")} if emulator else {}
        )
    ignored = environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    if ignored or not url.startswith("s3://"):
        return {}
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if text := environ.get(name):
            return {"endpoint_url": Setting(text, name)}
    return {}


def default_config_file(environ: Mapping[str, str]) -> Path:
    """Return where the TOML file lies unless `--config` names another."""
    if os.geteuid() == 0:
        return Path("/etc/mountfs.toml")
    return _xdg(environ, "XDG_CONFIG_HOME", ".config") / "mountfs" / "config.toml"


def file_layer(path: Path, url: str) -> dict[str, Setting]:
    """Return the settings that the file has for `url`.

    `[mount]` holds for every mount; over it goes the longest of the sections
    `[mounts."URL"]` whose URL is this one or a leading part of it up to a slash.
    """
    document = _read_toml(path)
    for name in document:
        if name not in ("mount", "mounts"):
            if name.replace("-", "_") in BY_FIELD:
                raise UsageError(
                    f"{path} has {name} outside of a section: put [mount] above it"
                )
            hint = suggestion(name, ("mount", "mounts"))
            raise UsageError(f"{path} has a section {name!r} that nobody reads{hint}")
    mounts = _table(document.get("mounts", {}), f"[mounts] in {path}")
    layer: dict[str, Setting] = {}
    _add_section(layer, document.get("mount", {}), "[mount]", path)
    layer = _of_service(layer, url)
    for section in mounts:
        _add_section({}, mounts[section], f'[mounts."{section}"]', path)
    fitting = [section for section in mounts if _covers(section, url)]
    if fitting:
        section = max(fitting, key=len)
        _add_section(layer, mounts[section], f'[mounts."{section}"]', path)
    return layer


def _of_service(layer: dict[str, Setting], url: str) -> dict[str, Setting]:
    """Return what is said for all mounts, without the endpoint for one that is not S3.

    It is that of an S3 service, and no other credentials are to be sent there.
    """
    if url.startswith("s3://"):
        return layer
    return {field: each for field, each in layer.items() if field != "endpoint_url"}


def _covers(section: str, url: str) -> bool:
    return f"{url.rstrip('/')}/".startswith(f"{section.rstrip('/')}/")


def _read_toml(path: Path) -> Mapping[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text, as TOML must be") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _table(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise UsageError(f"{where} must be a table")
    return value


def _add_section(
    layer: dict[str, Setting], section: object, title: str, path: Path
) -> None:
    for name, value in _table(section, f"{title} in {path}").items():
        where = f"{name} in {title} of {path}"
        option = _option(name, where)
        layer[option.field] = Setting(_toml_text(value, where), where)


def _toml_text(value: object, where: str) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return str(value)
        case list() if all(isinstance(each, str) for each in value):
            return ",".join(value)
    raise UsageError(f"{where} must be a string, a number, a truth value or a list")


def _option(name: str, where: str) -> Option:
    option = BY_FIELD.get(name.replace("-", "_"))
    if option is None:
        refuse_credentials(where)
        known = [each.name for each in OPTIONS]
        hint = suggestion(name, known) or "; `mountfs mount --help` lists them all"
        raise UsageError(f"{where} is not an option{hint}")
    return option


def _read_layers(
    url: str, given: Layer, config_file: Path | None, environ: Mapping[str, str]
) -> dict[str, object]:
    layers: list[Layer] = [sdk_layer(url, environ)]
    if config_file is None and (named := environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")):
        config_file = Path(named).absolute()
    if config_file is not None or default_config_file(environ).exists():
        layers.append(file_layer(config_file or default_config_file(environ), url))
    layers.append(_of_service(environment_layer(environ), url))
    layers.append(given)
    merged = {field: each for layer in layers for field, each in layer.items()}
    return {field: _read(BY_FIELD[field], each) for field, each in merged.items()}


def _read(option: Option, setting: Setting) -> object:
    try:
        return option.read(setting.text)
    except BadValue as error:
        raise UsageError(
            f"{setting.source} cannot be {setting.text!r}: it takes {error}"
        ) from error


def _value(
    values: Mapping[str, object], field: str, kind: type[T], default: D
) -> T | D:
    value = values.get(field)
    assert value is None or isinstance(value, kind)  # the table's readers saw to it
    return default if value is None else value


def _mode(
    values: Mapping[str, object], field: str, umask: int | None, full: int
) -> int:
    mask = 0o022 if umask is None else umask
    mode = _value(values, field, int, full & ~mask)
    if mode == 0:
        given = BY_FIELD[field].name if field in values else "umask"
        raise UsageError(
            f"--{given} leaves what has no mode of its own no permission at all, and"
            " nobody could open it: leave the owner some, such as 400"
        )
    return mode


def _store_options(
    url: str, values: Mapping[str, object], given: Layer
) -> Mapping[str, object]:
    """Return what was given for the store, under the names of its parameters.

    What a file or the environment says for some store in general is nothing to the
    others; on the command line it is a mistake, which the store itself will point out.
    """
    scheme = url.partition("://")[0]
    chosen = {
        field: value
        for field, value in values.items()
        if BY_FIELD[field].is_for_store
        and (scheme in BY_FIELD[field].schemes or field in given)
    }
    for one, other in CONTRADICTIONS:
        if chosen.get(one) and chosen.get(other):
            names = (BY_FIELD[one].name, BY_FIELD[other].name)
            raise UsageError(
                f"--{names[0]} and --{names[1]} exclude each other: drop one"
            )
    if "sse_kms_key_id" in chosen and not str(chosen.get("sse", "")).startswith("aws:"):
        raise UsageError("--sse-kms-key-id needs --sse aws:kms or --sse aws:kms:dsse")
    if "sse_customer_key_file" in chosen and chosen.setdefault("sse", "customer") != (
        "customer"
    ):
        raise UsageError("--sse-customer-key-file needs --sse customer, or no --sse")
    return MappingProxyType(
        {
            BY_FIELD[field].store_name or field: _plain(value)
            for field, value in chosen.items()
        }
    )


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def default_cache_size(cache_dir: Path) -> int:
    """Return 10 GiB, or 80 % of what is free if that is less."""
    free = shutil.disk_usage(_existing(cache_dir)).free
    return max(MINIMUM_CACHE_SIZE, min(DEFAULT_CACHE_SIZE, free * 8 // 10))


def default_min_free(cache_dir: Path) -> int:
    """Return a twentieth of the disk, or 1 GiB if that is less."""
    total = shutil.disk_usage(_existing(cache_dir)).total
    return min(MIN_FREE_MAX, total // 20)


def _existing(place: Path) -> Path:
    """Return the directory, or the nearest one above it that is there."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def _default_dir(kind: Literal["cache", "state"], environ: Mapping[str, str]) -> Path:
    if os.geteuid() == 0:
        return Path("/var/cache/mountfs" if kind == "cache" else "/var/lib/mountfs")
    if kind == "cache":
        return _xdg(environ, "XDG_CACHE_HOME", ".cache") / "mountfs"
    return _xdg(environ, "XDG_STATE_HOME", ".local/state") / "mountfs"


def _xdg(environ: Mapping[str, str], variable: str, fallback: str) -> Path:
    value = environ.get(variable, "")
    # The XDG base directory specification has relative paths ignored.
    return Path(value) if value.startswith("/") else Path.home() / fallback

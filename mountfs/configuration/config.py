"""The configuration of a mount: defaults < TOML files < environment < options.

Everything is read once, checked once and frozen. Nothing below `mountfs.mount` sees
this module, and nothing but this module and those that it asks
(`mountfs.configuration.effective`) reads the environment. What only the running system
can tell (is the mount point empty?) is checked by `mountfs.checks`.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar

from mountfs import mounts
from mountfs.configuration.effective import Asked, Effective, effective, placed
from mountfs.configuration.options import BY_FIELD
from mountfs.configuration.prices import Prices
from mountfs.configuration.settings import Layer, Setting, read_setting, xdg
from mountfs.configuration.values import MINIMUM_CACHE_SIZE
from mountfs.errors import UsageError
from mountfs.storage.types import Features, OfflinePolicy

DEFAULT_CACHE_SIZE = 10 << 30
MIN_FREE_MAX = 1 << 30
DEFAULT_TTL_S = 1.0
FOREVER_S = 365 * 24 * 3600.0
DEFAULT_NAMES_MAX = 1_000_000

CONTRADICTIONS = (
    ("no_sign_request", "profile"),
    ("no_sign_request", "requester_pays"),
)

T = TypeVar("T")
D = TypeVar("D")


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
    sync: bool
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
    bwlimit_up: int
    """Bytes a second that go to the store; 0 for any number, as below."""
    bwlimit_down: int
    max_requests_per_second: int
    durability: str
    """When a change returns: `store` or `journal`."""
    local_only: tuple[str, ...]
    """Patterns for the names of files that stay in the journal."""
    offline: OfflinePolicy
    lazy: bool
    conflict: str
    """What becomes of a commit that lost a race: copy, fail or overwrite."""
    metrics_port: int | None
    """None: metrics are told on the control socket alone."""
    metrics_address: str
    request_prices: Prices | None
    log_format: str
    log_level: str
    log_file: Path | None
    """None: stderr in the foreground, a file in the state directory else."""
    asked: Asked
    """What was asked for, to ask it again when files have changed."""
    found: Effective
    """What that came to, as it was said, and where."""

    @property
    def believed_s(self) -> float:
        """How long an answer of the store is trusted, in seconds."""
        return FOREVER_S if self.exclusive else self.ttl_s


def store_config(
    url: str, given: Layer, *, config_file: Path | None, environ: Mapping[str, str]
) -> StoreConfig:
    """Return what it takes to open `url`. Raises `UsageError`."""
    found = effective(Asked(url, None, given, config_file, environ))
    values = _read(found.settings)
    return StoreConfig(
        url=found.url.text,
        store_options=_store_options(found, values),
        features=_value(values, "virtual", Features, Features.for_mounts()),
    )


def mount_config(
    target: str | None,
    mount_point: str | None,
    given: Layer,
    *,
    config_file: Path | None,
    environ: Mapping[str, str],
) -> MountConfig:
    """Return the whole configuration of one mount. Raises `UsageError`.

    `target` is a URL or the name of a mount, whose mount point the file has. `given`
    are the options of the command line; they win over the environment, which wins
    over the file.
    """
    asked = Asked(target, mount_point, given, config_file, environ)
    return settled(asked, effective(asked))


def settled(asked: Asked, found: Effective) -> MountConfig:
    """Return the configuration that was found. Raises `UsageError`."""
    environ = asked.environ
    directory = _mount_point(found)
    values = _read(found.settings)
    umask = _value(values, "umask", int, None)
    cache_dir = _value(values, "cache_dir", Path, _default_dir("cache", environ))
    return MountConfig(
        url=found.url.text,
        mount_point=directory,
        store_options=_store_options(found, values),
        features=_value(values, "virtual", Features, Features.for_mounts()),
        ttl_s=_value(values, "ttl", float, DEFAULT_TTL_S),
        names_max=_value(values, "names_max", int, DEFAULT_NAMES_MAX),
        exclusive=_value(values, "exclusive", bool, False),
        read_only=_value(values, "read_only", bool, False),
        allow_other=_value(values, "allow_other", bool, False),
        noexec=_value(values, "noexec", bool, False),
        sync=_value(values, "sync", bool, False),
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
        bwlimit_up=_value(values, "bwlimit_up", int, 0),
        bwlimit_down=_value(values, "bwlimit_down", int, 0),
        max_requests_per_second=_value(values, "max_requests_per_second", int, 0),
        durability=_value(values, "durability", str, "store"),
        local_only=_local_only(found, values),
        lazy=_value(values, "lazy", bool, False),
        offline=OfflinePolicy(_value(values, "offline", str, "wait")),
        conflict=_value(values, "conflict", str, "copy"),
        metrics_port=_value(values, "metrics_port", int, None),
        metrics_address=_value(values, "metrics_address", str, "127.0.0.1"),
        request_prices=_value(values, "request_prices", Prices, None),
        log_format=_value(values, "log_format", str, "text"),
        log_level=_value(values, "log_level", str, "info"),
        log_file=_value(values, "log_file", Path, None),
        asked=asked,
        found=found,
    )


def _mount_point(found: Effective) -> Path:
    """Return where to mount. Raises `UsageError` if nothing says it."""
    setting = found.mount_point
    if setting is None and found.name is not None:
        raise UsageError(
            f"{found.url.place}: nothing says where to mount {found.name}: add"
            ' mount-point = "/DIRECTORY" below this, or name an empty directory'
        )
    if setting is None:
        raise UsageError(
            f"the mount point of {found.url.text} is missing: name an empty directory"
        )
    if not setting.text:
        raise UsageError("the mount point has an empty name: name an empty directory")
    return mounts.real_place(placed(setting))


def _read(settings: Mapping[str, Setting]) -> dict[str, object]:
    return {
        field: read_setting(BY_FIELD[field], each) for field, each in settings.items()
    }


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


def _local_only(found: Effective, values: Mapping[str, object]) -> tuple[str, ...]:
    """Return the patterns of `local-only`, which only a journal can keep."""
    patterns: tuple[str, ...] = _value(values, "local_only", tuple, ())
    if patterns and values.get("durability") != "journal":
        raise UsageError(
            f"{found.settings['local_only'].where} needs durability=journal: there is"
            " no other place where such files could stay"
        )
    return patterns


def _store_options(
    found: Effective, values: Mapping[str, object]
) -> Mapping[str, object]:
    """Return what was given for the store, under the names of its parameters.

    What a file or the environment says for some store in general is nothing to the
    others; of this very mount it is a mistake.
    """
    scheme = found.url.text.partition("://")[0]
    chosen: dict[str, object] = {}
    for field, value in values.items():
        option = BY_FIELD[field]
        if not option.is_for_store:
            continue
        if scheme in option.schemes:
            chosen[field] = value
        elif field in found.specific:
            raise UsageError(
                f"{found.settings[field].where} means nothing to {scheme}:// stores:"
                " leave it out"
            )
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


def identity_of(config: MountConfig | StoreConfig) -> str:
    """Return the name of this store on this host: same store, same directories."""
    endpoint = config.store_options.get("endpoint_url", "")
    text = f"{endpoint} {config.url.rstrip('/')}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _existing(place: Path) -> Path:
    """Return the directory, or the nearest one above it that is there."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def _default_dir(kind: Literal["cache", "state"], environ: Mapping[str, str]) -> Path:
    if os.geteuid() == 0:
        return Path("/var/cache/mountfs" if kind == "cache" else "/var/lib/mountfs")
    if kind == "cache":
        return xdg(environ, "XDG_CACHE_HOME", ".cache") / "mountfs"
    return xdg(environ, "XDG_STATE_HOME", ".local/state") / "mountfs"

"""The files with the configuration: what stands in them, and everything wrong there.

A file says something of all mounts (`[mount]`), of those of some URLs
(`[mounts."URL"]`) and of mounts that have a name (`[mounts.NAME]`). A file of one mount
has its `url` and `mount-point` above all sections, and is named like the mount. What is
wrong is kept as sentences, so that a command can tell all of it; who wants to mount
reads with `read`, which takes nothing wrong.
"""

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mountfs.configuration.options import BY_FIELD, refuse_credentials
from mountfs.configuration.settings import (
    ENVIRONMENT_PREFIX,
    Layer,
    Setting,
    find_option,
    of_service,
    read_setting,
    xdg,
)
from mountfs.configuration.toml_lines import Keys, lines_of
from mountfs.configuration.urls import is_url
from mountfs.configuration.values import suggestion
from mountfs.errors import UsageError

SIZE_MAX = 1 << 20
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:+-]*")
SECTIONS = ("mount", "mounts")
OF_ONE_MOUNT = ("url", "mount_point")
"""What a mount with a name has besides options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMount:
    """A mount that a file describes."""

    name: str
    place: str
    """The file, and the line in it where it begins."""
    url: Setting | None
    mount_point: Setting | None
    layer: Layer


@dataclass(slots=True)
class ConfigFile:
    """What a file says."""

    path: Path
    general: Layer = field(default_factory=dict)
    by_url: dict[str, Layer] = field(default_factory=dict)
    named: dict[str, NamedMount] = field(default_factory=dict)
    own: NamedMount | None = None
    """The mount that the whole file is about."""
    problems: list[str] = field(default_factory=list)
    """Sentences that begin with the file and the line, in the order of the lines."""

    def layers_for(self, url: str) -> Iterator[Layer]:
        """Yield what holds for the mounts of a URL, the general first.

        Of the sections with URLs it is the longest whose URL is this one or a leading
        part of it up to a slash, and only that.
        """
        yield of_service(self.general, url)
        fitting = [section for section in self.by_url if _covers(section, url)]
        if fitting:
            yield self.by_url[max(fitting, key=len)]

    def layers(self) -> Iterator[Layer]:
        """Yield all that is said, whatever it is about."""
        yield self.general
        yield from self.by_url.values()
        yield from (each.layer for each in self.named.values())


def _covers(section: str, url: str) -> bool:
    return f"{url.rstrip('/')}/".startswith(f"{section.rstrip('/')}/")


def default_config_file(environ: Mapping[str, str]) -> Path:
    """Return where the file for all mounts lies unless `--config` names another."""
    if os.geteuid() == 0:
        return Path("/etc/mountfs.toml")
    return _own_dir(environ) / "config.toml"


def instances_dir(environ: Mapping[str, str]) -> Path:
    """Return where the files of single mounts lie, each named like its mount."""
    return Path("/etc/mountfs") if os.geteuid() == 0 else _own_dir(environ)


def _own_dir(environ: Mapping[str, str]) -> Path:
    return xdg(environ, "XDG_CONFIG_HOME", ".config") / "mountfs"


def chosen_file(named: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file for all mounts: a named one, or the usual one if it exists."""
    if named is None and (text := environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")):
        named = Path(text).absolute()
    if named is not None:
        return named
    default = default_config_file(environ)
    return default if default.exists() else None


def read(path: Path) -> ConfigFile:
    """Return what the file says. Raises `UsageError` if anything in it is wrong.

    Values are read when they are used: one that this host does not take, such as the
    name of a user, is no matter of the other mounts.
    """
    found = examine(path)
    if found.problems:
        more = len(found.problems) - 1
        hint = f" (and {more} more: see `mountfs config check {path}`)" if more else ""
        raise UsageError(found.problems[0] + hint)
    return found


def examine(path: Path) -> ConfigFile:
    """Return what the file says, with its problems. Raises `UsageError` if it cannot
    be read at all.
    """
    text = _text_of(path)
    found = ConfigFile(path)
    document, text = _parsed(text, found)
    _Reader(found, lines_of(text)).read(document)
    found.problems = in_order(path, found.problems)
    return found


def in_order(path: Path, sentences: Iterable[str]) -> list[str]:
    """Return sentences about a file in the order of their lines."""

    def line_of(sentence: str) -> int:
        line = re.match(r":(\d+): ", sentence.removeprefix(str(path)))
        return int(line[1]) if line else 0

    return sorted(sentences, key=line_of)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            _refuse_foreign_hands(path, os.fstat(file.fileno()))
            data = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > SIZE_MAX:
        raise UsageError(f"{path} is larger than a megabyte: it is no such file")
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text, as TOML must be") from error


def _refuse_foreign_hands(path: Path, found: os.stat_result) -> None:
    """Raise for a file that others can change: it says where root writes."""
    if not stat.S_ISREG(found.st_mode):
        return
    if found.st_uid not in (0, os.geteuid()):
        raise UsageError(
            f"{path} belongs to another user, who would decide what this mount does:"
            f" run `chown {'root' if os.geteuid() == 0 else '$USER'} {path}`"
        )
    # Many systems give each user a group of their own and let it write.
    forbidden = 0o022 if os.geteuid() == 0 and found.st_gid != 0 else 0o002
    if found.st_mode & forbidden:
        raise UsageError(
            f"{path} can be changed by other users, who would decide what this mount"
            f" does: run `chmod go-w {path}`"
        )


def _parsed(text: str, found: ConfigFile) -> tuple[Mapping[str, object], str]:
    """Return the document, and the text as far as it is valid."""
    try:
        return tomllib.loads(text), text
    except RecursionError:
        found.problems.append(f"{found.path}: this is nested too deeply to be read")
        return {}, ""
    except ValueError as error:  # TOMLDecodeError, or a number without end
        told = re.sub(r" \(at [^()]*\)$", "", str(error))
        at = re.search(r"at line (\d+)", str(error))
        lines = text.split("\n")
        line = int(at[1]) if at else len(text.rstrip().split("\n"))
        found.problems.append(f"{found.path}:{line}: this is not valid TOML: {told}")
        # What stands above may have something wrong too.
        above = "\n".join(lines[: line - 1])
        try:
            return tomllib.loads(above), above
        except (ValueError, RecursionError):
            return {}, ""


class _Reader:
    """Takes one document apart."""

    def __init__(self, found: ConfigFile, lines: Mapping[Keys, int]) -> None:
        self._found = found
        self._lines = lines

    def read(self, document: Mapping[str, object]) -> None:
        """Fill in what the file says, and its problems."""
        for name in document:
            if name not in SECTIONS and name.replace("-", "_") not in OF_ONE_MOUNT:
                self._complain((name,), _of_unknown(name))
        if table := self._table(document.get("mount", {}), ("mount",)):
            self._found.general = self._layer(table, ("mount",))
        for name, value in self._table(document.get("mounts", {}), ("mounts",)).items():
            self._section(name, value)
        own = {
            name: value
            for name, value in document.items()
            if name.replace("-", "_") in OF_ONE_MOUNT
        }
        if own:
            self._found.own = self._named(self._found.path.stem, own, ())
            if "mounts" in document:
                self._complain(
                    ("mounts",), "[mounts] has no place in a file with a url of its own"
                )

    def _section(self, name: str, value: object) -> None:
        keys = ("mounts", name)
        table = self._table(value, keys)
        if is_url(name):
            self._found.by_url[name] = self._layer(table, keys)
        elif NAME.fullmatch(name):
            self._found.named[name] = self._named(name, table, keys)
        else:
            self._complain(
                keys,
                f"[mounts.{name!r}] is neither a URL nor the name of a mount: names are"
                " made of letters, digits, _, -, . and @",
            )

    def _named(self, name: str, table: Mapping[str, object], keys: Keys) -> NamedMount:
        own: dict[str, Setting] = {}
        options: dict[str, object] = {}
        for key, value in table.items():
            plain = key.replace("-", "_")
            if plain not in OF_ONE_MOUNT:
                options[key] = value
            elif isinstance(value, str) and value:
                own[plain] = Setting(value, key, self._place((*keys, key)))
            else:
                self._complain((*keys, key), f"{key} must be a string")
        return NamedMount(
            name=name,
            place=self._place(keys),
            url=own.get("url"),
            mount_point=own.get("mount_point"),
            layer=self._layer(options, keys) if keys else self._found.general,
        )

    def _layer(self, table: Mapping[str, object], keys: Keys) -> dict[str, Setting]:
        layer: dict[str, Setting] = {}
        title = _title(keys)
        for name, value in table.items():
            where = (*keys, name)
            text = _toml_text(value)
            if text is None:
                self._complain(
                    where,
                    f"{name} in {title} must be a string, a number, a truth value or a"
                    " list of strings",
                )
                continue
            try:
                option = find_option(name, f"{name} in {title}")
            except UsageError as error:
                self._complain(where, str(error))
                continue
            if option.field in layer:
                self._complain(where, f"{name} stands twice in {title}: remove one")
            layer[option.field] = Setting(
                text, f"{name} in {title}", self._place(where)
            )
        return layer

    def _table(self, value: object, keys: Keys) -> Mapping[str, object]:
        if isinstance(value, dict):
            return value
        self._complain(keys, f"{_title(keys)} must be a table")
        return {}

    def _complain(self, keys: Keys, sentence: str) -> None:
        self._found.problems.append(f"{self._place(keys)}: {sentence}")

    def _place(self, keys: Keys) -> str:
        while keys and keys not in self._lines:
            keys = keys[:-1]
        line = f":{self._lines[keys]}" if keys else ""
        return f"{self._found.path}{line}"


def _of_unknown(name: str) -> str:
    if name.replace("-", "_") in BY_FIELD:
        return f"{name} stands outside of a section: put [mount] above it"
    refuse_credentials(name)
    hint = suggestion(name, (*SECTIONS, "url", "mount-point"))
    return f"nobody reads {name!r}{hint}"


def _title(keys: Keys) -> str:
    words = [
        key if NAME.fullmatch(key) and "." not in key else f'"{key}"' for key in keys
    ]
    return f"[{'.'.join(words)}]"


def _toml_text(value: object) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return str(value)
        case list() if all(isinstance(each, str) for each in value):
            return ",".join(value)
    return None


def problems_of_values(found: ConfigFile) -> Iterator[str]:
    """Yield a sentence for each value that its option does not take here."""
    for layer in found.layers():
        for name, setting in layer.items():
            try:
                read_setting(BY_FIELD[name], setting)
            except UsageError as error:
                yield str(error)

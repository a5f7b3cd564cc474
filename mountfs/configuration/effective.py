"""Which settings count for a mount: all layers laid over each other.

The later ones win: what the SDK would take by itself, the file for all mounts, what
stands under the mount's own name, the environment, the command line. A mount's name is
looked up in the file for all mounts; else a file of its own is named like it.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mountfs.configuration import config_file
from mountfs.configuration.config_file import NAME, ConfigFile, NamedMount
from mountfs.configuration.settings import (
    Layer,
    Setting,
    environment_layer,
    of_service,
    sdk_layer,
)
from mountfs.configuration.urls import checked_url, is_url
from mountfs.configuration.values import suggestion
from mountfs.errors import UsageError


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for. What that comes to may change when files do."""

    target: str | None
    """A URL, or the name of a mount; None: the one that the file is about."""
    mount_point: str | None
    """None: where the file says."""
    given: Layer
    """The options of the command line."""
    config_file: Path | None
    environ: Mapping[str, str] = field(repr=False)
    """Secrets may stand there, which nobody is to log."""


@dataclass(frozen=True, slots=True)
class Effective:
    """What counts for one mount. No value has been read yet."""

    name: str | None
    url: Setting
    mount_point: Setting | None
    settings: Layer
    specific: frozenset[str]
    """The fields that were said of this very mount, and so are meant for its store."""


def effective(asked: Asked) -> Effective:
    """Return what counts. Raises `UsageError`."""
    return laid_over(asked, _general(asked.config_file, asked.environ))


def laid_over(asked: Asked, general: ConfigFile | None) -> Effective:
    """Return what counts if this is what the file for all mounts says."""
    environ = asked.environ
    named: NamedMount | None = None
    if asked.target is not None and is_url(asked.target):
        url = Setting(asked.target, "the command line")
    else:
        named = _named(asked.target, general, environ)
        url = _said(named, named.url, "url", 'url = "s3://BUCKET/PREFIX"')
    _check_url(url)
    layers: list[Layer] = [sdk_layer(url.text, environ)]
    if general is not None:
        layers += general.layers_for(url.text)
    if named is not None:
        layers.append(named.layer)
    layers += [of_service(environment_layer(environ), url.text), asked.given]
    return Effective(
        named.name if named is not None else None,
        url,
        _mount_point(asked.mount_point, named),
        {field: each for layer in layers for field, each in layer.items()},
        frozenset(asked.given) | frozenset(named.layer if named is not None else ()),
    )


def _check_url(url: Setting) -> None:
    try:
        checked_url(url.text)
    except UsageError as error:
        raise UsageError(f"{url.place}: {error}" if url.place else str(error)) from None


def placed(mount_point: Setting) -> Path:
    """Return where to mount. In a file that does not depend on where one stands.

    Raises `UsageError`.
    """
    path = Path(mount_point.text)
    if not mount_point.place:
        return path
    with contextlib.suppress(RuntimeError):  # nobody has that name
        path = path.expanduser()
    if not path.is_absolute():
        raise UsageError(
            f"{mount_point.where} cannot be {mount_point.text!r}: it takes an absolute"
            " path"
        )
    return path


def _general(path: Path | None, environ: Mapping[str, str]) -> ConfigFile | None:
    path = config_file.chosen_file(path, environ)
    return config_file.read(path) if path is not None else None


def named_mounts(path: Path | None, environ: Mapping[str, str]) -> Iterator[NamedMount]:
    """Yield each mount that has a name. Raises `UsageError` for a file with errors."""
    general = _general(path, environ)
    if general is not None:
        yield from general.named.values()
        if general.own is not None:
            yield general.own
    if path is None:
        for each in instance_files(environ):
            own = config_file.read(each).own
            if own is not None:
                yield own


def all_names(path: Path | None, environ: Mapping[str, str]) -> list[str]:
    """Return the names of all mounts; what is wrong with one is found out later.

    Raises `UsageError` if the file for all mounts is wrong.
    """
    general = _general(path, environ)
    names = [each.name for each in _all_in(general)] if general is not None else []
    instances = instance_files(environ) if path is None else []
    return list(dict.fromkeys([*names, *(each.stem for each in instances)]))


def instance_files(environ: Mapping[str, str]) -> list[Path]:
    """Return the files of single mounts, in the order of their names."""
    general = config_file.default_config_file(environ)
    found = config_file.instances_dir(environ).glob("*.toml")
    return sorted(each for each in found if each != general)


def _named(
    name: str | None, general: ConfigFile | None, environ: Mapping[str, str]
) -> NamedMount:
    if name is None:
        if general is None or general.own is None:
            raise UsageError(
                "nothing says what to mount: give a URL and a directory, the name of a"
                " mount, or a --config file with a url"
            )
        return general.own
    found = _all_named(name, general, environ)
    if len(found) > 1:
        raise UsageError(
            f"there are two mounts named {name}, in {found[0].place} and in"
            f" {found[1].place}: remove one"
        )
    if not found:
        raise UsageError(_of_unknown(name, general, environ))
    return found[0]


def _all_named(
    name: str, general: ConfigFile | None, environ: Mapping[str, str]
) -> list[NamedMount]:
    found: list[NamedMount] = []
    if general is not None:
        found += [each for each in _all_in(general) if each.name == name]
    instance = config_file.instances_dir(environ) / f"{name}.toml"
    is_separate = general is None or instance != general.path
    if NAME.fullmatch(name) and is_separate and instance.exists():
        found.append(_own_of(instance))
    return found


def is_known(name: str, path: Path | None, environ: Mapping[str, str]) -> bool:
    """Tell whether the files have a mount of that name.

    Raises `UsageError` for a file that is wrong.
    """
    return bool(_all_named(name, _general(path, environ), environ))


def mount_point_of(
    name: str, path: Path | None, environ: Mapping[str, str]
) -> str | None:
    """Return where the files have a mount of that name, if they know one.

    Raises `UsageError` for a file that is wrong.
    """
    for each in _all_named(name, _general(path, environ), environ):
        if each.mount_point is not None:
            return str(placed(each.mount_point))
    return None


def _all_in(general: ConfigFile) -> list[NamedMount]:
    own = [general.own] if general.own is not None else []
    return [*general.named.values(), *own]


def _own_of(path: Path) -> NamedMount:
    own = config_file.read(path).own
    if own is None:
        raise UsageError(
            f"{path} has no url: write one above the first section, such as"
            ' url = "s3://BUCKET/PREFIX"'
        )
    return own


def _of_unknown(
    name: str, general: ConfigFile | None, environ: Mapping[str, str]
) -> str:
    if not NAME.fullmatch(name):
        return (
            f"{name!r} is not the URL of a store: write s3://BUCKET/PREFIX,"
            " file:///DIRECTORY or memory://"
        )
    known = [each.name for each in _all_in(general)] if general is not None else []
    known += [each.stem for each in instance_files(environ)]
    places = [f"no file {config_file.instances_dir(environ) / name}.toml"]
    if general is not None:
        places.insert(0, f"no section [mounts.{name}] in {general.path}")
    return (
        f"{name!r} is not the URL of a store (such as s3://BUCKET/PREFIX), and no mount"
        f" has that name: there is {' and '.join(places)}{suggestion(name, known)}"
    )


def _said(
    named: NamedMount, setting: Setting | None, what: str, example: str
) -> Setting:
    if setting is None:
        raise UsageError(f"{named.place}: {named.name} has no {what}: add {example}")
    return setting


def _mount_point(given: str | None, named: NamedMount | None) -> Setting | None:
    if given is not None:
        return Setting(given, "the command line")
    return named.mount_point if named is not None else None

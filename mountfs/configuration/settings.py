"""What was said for the options of a mount, as text, with where it was said.

Each place, be it the command line, the environment or a section of a file, is a layer.
Here are those of the command line and of the environment, and what all share.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mountfs.configuration.options import BY_FIELD, OPTIONS, Option, refuse_credentials
from mountfs.configuration.values import BadValue, suggestion
from mountfs.errors import UsageError

ENVIRONMENT_PREFIX = "MOUNTFS_"


@dataclass(frozen=True, slots=True)
class Setting:
    """The text that somebody gave for an option, and where, for the error."""

    text: str
    source: str
    """What it is called there: `--ttl`, `MOUNTFS_TTL`, `ttl in [mount]`."""
    place: str = ""
    """The file and its line, `FILE:LINE`, if it stands in one."""

    @property
    def where(self) -> str:
        """The beginning of a sentence about it."""
        return f"{self.place}: {self.source}" if self.place else self.source


Layer = Mapping[str, Setting]
"""Settings by field name, all from one place."""


def read_setting(option: Option, setting: Setting) -> object:
    """Return the value that the text stands for. Raises `UsageError`."""
    try:
        return option.read(setting.text)
    except BadValue as error:
        raise UsageError(
            f"{setting.where} cannot be {setting.text!r}: it takes {error}"
        ) from error


def find_option(name: str, where: str) -> Option:
    """Return the option of that name. Raises `UsageError` with the nearest one."""
    option = BY_FIELD.get(name.replace("-", "_"))
    if option is None:
        refuse_credentials(where)
        known = [each.name for each in OPTIONS]
        hint = suggestion(name, known) or "; `mountfs mount --help` lists them all"
        raise UsageError(f"{where} is not an option{hint}")
    return option


def options_layer(pairs: Iterable[tuple[str, str]]) -> dict[str, Setting]:
    """Return the layer of `(name, text)` pairs as given to `-o`."""
    layer: dict[str, Setting] = {}
    for name, text in pairs:
        option = find_option(name, f"-o {name}")
        before = layer.get(option.field)
        if option.is_list and before is not None:
            text = f"{before.text},{text}"
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

    Other variables with that prefix are let be.
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


def of_service(layer: Layer, url: str) -> Layer:
    """Return what is said for all mounts, without the endpoint for one that is not S3.

    It is that of an S3 service, and no other credentials are to be sent there.
    """
    if url.startswith("s3://"):
        return layer
    return {field: each for field, each in layer.items() if field != "endpoint_url"}


def xdg(environ: Mapping[str, str], variable: str, fallback: str) -> Path:
    """Return a directory of the XDG specification, which is a user's."""
    value = environ.get(variable, "")
    # The XDG base directory specification has relative paths ignored.
    return Path(value) if value.startswith("/") else Path.home() / fallback

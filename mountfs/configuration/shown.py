"""Settings as text that could be given again: `1G`, `10s`, `022`."""

from mountfs.configuration.config import MountConfig
from mountfs.configuration.values import UNITS
from mountfs.storage.types import Features, OfflinePolicy

ATTRIBUTES = {"ttl": "ttl_s", "virtual": "features"}
"""Where that is not the name of its option."""
SIZES = ("cache_size", "min_free", "bwlimit_up", "bwlimit_down")
MODES = ("umask", "file_mode", "dir_mode")


def attribute_of(field: str) -> str:
    """Return what the configuration calls a setting of the mount."""
    return ATTRIBUTES.get(field, field)


def shown(settings: MountConfig, field: str) -> str | None:
    """Return the value of a setting of the mount; None if it has none."""
    value = getattr(settings, attribute_of(field))
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case Features():
            names = ",".join(value.names())
            return names.replace("virtual_", "").replace("_", "-") or "none"
        case OfflinePolicy():
            return value.value
        case tuple():
            return ",".join(value) or None
        case int() if field in MODES:
            return f"{value:03o}"
        case int() if field in SIZES:
            return size_text(value)
        case float() if field == "ttl":
            return f"{value:g}s"
    return str(value)


def size_text(size: int) -> str:
    """Return a size in the largest unit that has it whole."""
    for unit, scale in sorted(UNITS.items(), key=lambda each: -each[1]):
        if size and size % scale == 0:
            return f"{size // scale}{unit}"
    return str(size)

"""How each setting that can change while a mount lives is made to count."""

from collections.abc import Mapping

from mountfs import logs
from mountfs.cache.budget import Budget
from mountfs.config import MountConfig
from mountfs.live import Apply
from mountfs.vfs.filesystem import FileSystem


def appliers_of(filesystem: FileSystem, budget: Budget) -> Mapping[str, Apply]:
    """Return what lets a setting count in these parts of a mount, by its field."""
    floor = budget.floor

    async def log_level(config: MountConfig) -> None:
        logs.set_level(config.log_level)

    async def ttl(config: MountConfig) -> None:
        filesystem.volume.believe_for(config.believed_s)

    async def names_max(config: MountConfig) -> None:
        filesystem.keep_names(config.names_max)

    async def cache_size(config: MountConfig) -> None:
        await budget.resize(config.cache_size)

    async def min_free(config: MountConfig) -> None:
        assert floor is not None, "what is not there is not offered"
        floor.resize(config.min_free)

    appliers: dict[str, Apply] = {
        "log_level": log_level,
        "ttl": ttl,
        "names_max": names_max,
        "cache_size": cache_size,
    }
    # Without a floor nobody watches the disk.
    return {**appliers, "min_free": min_free} if floor is not None else appliers

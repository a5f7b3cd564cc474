"""How each setting that can change while a mount lives is made to count."""

from collections.abc import Mapping

from mountfs import logs
from mountfs.cache.budget import Budget
from mountfs.configuration.config import MountConfig
from mountfs.serving.live import Apply
from mountfs.storage.brakes import Brakes
from mountfs.vfs.filesystem import FileSystem


def appliers_of(
    filesystem: FileSystem, budget: Budget, brakes: Brakes
) -> Mapping[str, Apply]:
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

    async def bwlimit_up(config: MountConfig) -> None:
        brakes.up.limit(config.bwlimit_up)

    async def bwlimit_down(config: MountConfig) -> None:
        brakes.down.limit(config.bwlimit_down)

    async def max_requests_per_second(config: MountConfig) -> None:
        brakes.requests.limit(config.max_requests_per_second)

    appliers: dict[str, Apply] = {
        "log_level": log_level,
        "ttl": ttl,
        "names_max": names_max,
        "cache_size": cache_size,
        "bwlimit_up": bwlimit_up,
        "bwlimit_down": bwlimit_down,
        "max_requests_per_second": max_requests_per_second,
    }
    # Without a floor nobody watches the disk.
    return {**appliers, "min_free": min_free} if floor is not None else appliers

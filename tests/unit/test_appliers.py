"""Each setting that can change is made to count in the parts of a mount."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountfs.cache.budget import Budget
from mountfs.cache.floor import DiskFloor
from mountfs.configuration import config
from mountfs.configuration.config import MountConfig
from mountfs.configuration.settings import Setting
from mountfs.serving.appliers import appliers_of
from mountfs.serving.stack import brakes_of
from mountfs.storage.body import BytesBody
from mountfs.storage.brakes import Brakes
from tests.fakes.volume import open_scene


def settings(**given: str) -> MountConfig:
    """Return a configuration with these settings."""
    return config.mount_config(
        "memory://",
        "/mnt",
        {name: Setting(text, name) for name, text in given.items()},
        config_file=None,
        environ={"MOUNTFS_CONFIG": "/dev/null"},
    )


@pytest.fixture
def level() -> Iterator[logging.Logger]:
    """The logger whose level is set, as it was afterwards."""
    logger = logging.getLogger("mountfs")
    before = logger.level
    yield logger
    logger.setLevel(before)


async def test_a_longer_time_to_live_counts_for_what_is_known(tmp_path: Path) -> None:
    """What was asked for at each look is asked for no more, and then again."""
    async with open_scene(tmp_path) as scene:
        await scene.there.write("file", BytesBody(b"x"))
        appliers = appliers_of(scene.fs, Budget(1), Brakes())

        async def requests() -> int:
            scene.store.asked.clear()
            await scene.lookup("file")
            return len(scene.store.asked)

        assert await requests() > 0
        assert await requests() > 0
        await appliers["ttl"](settings(ttl="1h"))
        assert await requests() == 0
        await appliers["ttl"](settings(ttl="0"))
        assert await requests() > 0
        await appliers["ttl"](settings(ttl="0", exclusive="true"))
        assert await requests() == 0


async def test_fewer_names_are_kept_at_once(tmp_path: Path) -> None:
    """What is too much of what is known is dropped, and nothing else is."""
    async with open_scene(tmp_path, ttl_s=60) as scene:
        for number in range(1500):
            await scene.there.write(f"{number:04}", BytesBody(b""))
        await scene.nodes("")
        metadata = scene.fs.volume.metadata
        assert len(metadata) == 1500

        await appliers_of(scene.fs, Budget(1), Brakes())["names_max"](
            settings(names_max="1000")
        )

        assert len(metadata) == 1000


async def test_limits_of_the_disk_are_those_of_the_cache(tmp_path: Path) -> None:
    """Without a floor from the beginning nobody would watch one."""
    async with open_scene(tmp_path) as scene:
        budget = Budget(1, DiskFloor(tmp_path, 1))
        appliers = appliers_of(scene.fs, budget, Brakes())

        await appliers["cache_size"](settings(cache_size="32M"))
        await appliers["min_free"](settings(min_free="3M"))

        assert budget.size_max == 32 << 20
        assert budget.floor is not None
        assert budget.floor.size == 3 << 20
        assert "min_free" not in appliers_of(scene.fs, Budget(1), Brakes())


async def test_brakes_and_the_log_take_what_they_are_told(
    tmp_path: Path, level: logging.Logger
) -> None:
    """The same limits as at the mount."""
    wanted = settings(
        bwlimit_up="1M/s",
        bwlimit_down="2M",
        max_requests_per_second="3",
        log_level="error",
    )
    begun, brakes = brakes_of(wanted), Brakes()
    async with open_scene(tmp_path) as scene:
        appliers = appliers_of(scene.fs, Budget(1), brakes)
        for field in ("bwlimit_up", "bwlimit_down", "max_requests_per_second"):
            await appliers[field](wanted)
        await appliers["log_level"](wanted)

    for each in (begun, brakes):
        limits = (each.up.rate, each.down.rate, each.requests.rate)
        assert limits == (1 << 20, 2 << 20, 3)
    assert level.level == logging.ERROR

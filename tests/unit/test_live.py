"""What of a mount's settings changes while it lives, and what is refused."""

import errno
import logging
import os
import signal
from pathlib import Path

import pytest
import trio
import trio.testing

from mountfs.cache.budget import Budget
from mountfs.configuration import config
from mountfs.configuration.config import MountConfig
from mountfs.configuration.settings import Setting
from mountfs.serving.live import Live


class Mounted:
    """A mount's settings, and what was made of them."""

    def __init__(self, base: Path, *, exclusive: bool = False) -> None:
        self.file = base / "mountfs.toml"
        self.file.write_text("[mount]\nttl = 2\n")
        given = {
            name: Setting(str(base / name), f"--{name}")
            for name in ("cache_dir", "state_dir")
        }
        (base / "cache_dir").mkdir()
        given["names_max"] = Setting("2000", "--names-max")
        if exclusive:
            given["exclusive"] = Setting("true", "--exclusive")
        self.seen: list[object] = []
        self.failures: list[Exception] = []
        self.is_applied = trio.Event()
        loaded = config.mount_config(
            "memory://", "/mnt", given, config_file=self.file, environ={}
        )
        self.live = Live(
            loaded,
            {"ttl": self.ttl, "names_max": self.names, "cache_size": self.cache},
        )

    async def ttl(self, config: MountConfig) -> None:
        if self.failures:
            raise self.failures.pop()
        self.seen.append(config.ttl_s)
        self.is_applied.set()

    async def names(self, config: MountConfig) -> None:
        self.seen.append(config.names_max)

    async def cache(self, config: MountConfig) -> None:
        self.seen.append(config.cache_size)


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    """A mount whose file says `ttl = 2`, and its command line `--names-max=2000`."""
    return Mounted(tmp_path)


async def test_what_is_set_counts_at_once(mounted: Mounted) -> None:
    """The answer says what it was; what is the same is not applied again."""
    done = await mounted.live.set({"ttl": "5s", "names_max": "2000"})

    assert done.lines == ("names-max: 2000", "ttl: 2s -> 5s")
    assert mounted.seen == [5.0]


async def test_without_anything_to_set_all_is_told(mounted: Mounted) -> None:
    """Each thing that could be set is there with its value."""
    done = await mounted.live.set({})

    assert [line.partition(":")[0] for line in done.lines] == [
        "cache-size",
        "names-max",
        "ttl",
    ]
    assert mounted.seen == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"ttl": "5", "umask": "022"}, "umask cannot change while it is mounted"),
        ({"ttl": "5", "names-max": "1"}, "names-max cannot be '1': it takes"),
        ({"ttl": "5", "tttl": "1"}, "did you mean ttl?"),
        ({"ttl": "5", "cache-size": "9000T"}, "is more than the disk"),
    ],
)
async def test_nothing_is_set_if_anything_is_wrong(
    mounted: Mounted, settings: dict[str, str], expected: str
) -> None:
    """One sentence with exit code 2, and all is as it was."""
    done = await mounted.live.set(settings)

    assert expected in (done.error or "")
    assert done.code == 2
    assert mounted.seen == []


async def test_an_exclusive_mount_has_no_time_to_live(tmp_path: Path) -> None:
    """Setting it would seem to do something."""
    done = await Mounted(tmp_path, exclusive=True).live.set({"ttl": "5"})

    assert "ttl means nothing to this mount" in (done.error or "")


async def test_what_is_set_stands_over_the_files_until_it_is_taken_back(
    mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    """A reload changes what it covers, which shows when it is set to nothing."""
    caplog.set_level(logging.INFO, "mountfs")
    await mounted.live.set({"ttl": "5s"})
    mounted.file.write_text("[mount]\nttl = 7\nnames-max = 3000\n")

    await mounted.live.reread()

    # The command line stands over the file, too.
    assert mounted.seen == [5.0]
    assert "nothing has changed" in caplog.text
    assert (await mounted.live.set({"ttl": ""})).lines == ("ttl: 5s -> 7s",)
    assert mounted.seen == [5.0, 7.0]


async def test_a_reload_applies_what_can_change_and_tells_the_rest(
    mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits for the next mount is told until the files have it as it was."""
    mounted.file.write_text("[mount]\nttl = 3\nread-only = true\n")

    await mounted.live.reread()

    assert (mounted.seen, mounted.live.waiting) == ([3.0], ("read-only",))
    assert "read-only cannot change while it is mounted" in caplog.text
    mounted.file.write_text("[mount]\n")
    await mounted.live.reread()
    assert (mounted.seen, mounted.live.waiting) == ([3.0, 1.0], ())


@pytest.mark.parametrize("text", ["[mount", "[mount]\nttl = 'x'\n", None])
async def test_a_file_with_an_error_changes_nothing(
    mounted: Mounted, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    """It is one line of the log, and stays visible until a reload finds none."""
    if text is None:
        mounted.file.unlink()
    else:
        mounted.file.write_text(text)

    await mounted.live.reread()

    assert len(caplog.records) == 1
    assert str(mounted.file) in mounted.live.problem
    assert mounted.seen == []
    mounted.file.write_text("[mount]\nttl = 2\n")
    await mounted.live.reread()
    assert mounted.live.problem == ""


async def test_what_is_set_by_hand_hides_no_error_of_a_file(mounted: Mounted) -> None:
    """The next mount would be refused for it."""
    await mounted.live.set({"ttl": "5s"})
    mounted.file.write_text('[mount]\nttl = "soon"\n')

    await mounted.live.reread()

    assert "soon" in mounted.live.problem
    assert mounted.seen == [5.0]


async def test_a_hangup_reads_the_files(mounted: Mounted) -> None:
    """SIGHUP is what daemons are told by."""
    mounted.file.write_text("[mount]\nttl = 3\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mounted.live.reread_at_hangup)
        await trio.testing.wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGHUP)
        with trio.fail_after(10):
            await mounted.is_applied.wait()
        nursery.cancel_scope.cancel()

    assert mounted.seen == [3.0]


async def test_a_setting_that_cannot_be_applied_costs_no_mount(
    mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told as the configuration's problem, and the next SIGHUP is heard."""
    mounted.failures = [OSError(errno.EIO, "of the disk")]
    mounted.file.write_text("[mount]\nttl = 3\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mounted.live.reread_at_hangup)
        await trio.testing.wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGHUP)
        with trio.fail_after(10):
            while not mounted.live.problem:  # noqa: ASYNC110 - nothing tells
                await trio.sleep(0.01)
            mounted.file.write_text("[mount]\nttl = 4\n")
            os.kill(os.getpid(), signal.SIGHUP)
            await mounted.is_applied.wait()
        nursery.cancel_scope.cancel()

    assert "the configuration was not read again" in caplog.text
    assert mounted.seen == [4.0]


async def test_a_smaller_cache_evicts_and_keeps_what_exists_nowhere_else() -> None:
    """Clean bytes go; dirty ones stay even if they are more than the new limit."""

    class Clean:
        async def reclaim(self, size: int) -> int:
            freed = min(size, budget.clean)
            budget.release_clean(freed)
            return freed

    budget = Budget(100)
    budget.register_clean(Clean())
    budget.force_clean(50)
    budget.force_dirty(30)

    await budget.resize(60)
    assert (budget.clean, budget.dirty) == (30, 30)
    await budget.resize(20)
    assert (budget.clean, budget.dirty, budget.free) == (0, 30, 0)
    await budget.resize(100)
    assert budget.free == 70

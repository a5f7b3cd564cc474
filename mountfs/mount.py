"""The composition root: builds the stack inner to outer, runs it, takes it down.

The order of life: check the store, lock the directories of this host, recover what an
earlier mount left, mount, answer, and then in reverse: detach while still serving,
commit what is left, unmount, close the store. Signals begin the second half.

What is built, and from what, is read in `mountfs.serving.construction` (the file
system) and `mountfs.serving.stack` (the store below it); all tasks are begun here.
"""

import dataclasses
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from mountfs import abort, checks, mounts, takeover
from mountfs.backends import open_events, open_space
from mountfs.cache.budget import Budget
from mountfs.cache.directory import DirectoryInUse, DirectoryLock
from mountfs.cache.floor import DiskFloor
from mountfs.configuration.config import MountConfig, identity_of
from mountfs.control import Outcome, State, Status
from mountfs.errors import EXIT_PENDING, UsageError
from mountfs.fuse.notifier import fetch_unsent, notify_kernel, push_to_kernel
from mountfs.fuse.operations import Operations
from mountfs.fuse.session import Session
from mountfs.logs import current_file
from mountfs.mounts import note_umount_helper
from mountfs.serving.access import Access
from mountfs.serving.appliers import appliers_of
from mountfs.serving.audit import Audit, audit_of
from mountfs.serving.construction import open_filesystem
from mountfs.serving.control_server import ControlServer, Deed, Stream
from mountfs.serving.deeds import changes_of, deeds_of
from mountfs.serving.dump import dump
from mountfs.serving.live import Live
from mountfs.serving.metrics import Counters, prices_for
from mountfs.serving.metrics_server import served
from mountfs.serving.metrics_text import Look
from mountfs.serving.notify import Manager
from mountfs.serving.observing import observing
from mountfs.serving.pulse import Pulse
from mountfs.serving.report import Reporter
from mountfs.serving.resumption import take_up, take_up_late
from mountfs.serving.service import EXTENSION_S, Service, Work
from mountfs.serving.stack import Stack, check_store, find_out_at_once, open_base
from mountfs.serving.waiter import Waiter
from mountfs.serving.warmer import Warmer
from mountfs.storage.meter import Meter
from mountfs.storage.tracing import Tracer
from mountfs.storage.watched import Prober
from mountfs.storage.wire import record_with
from mountfs.vfs.elsewhere import Elsewhere
from mountfs.vfs.filesystem import FileSystem
from mountfs.vfs.space import SpaceMeter

log = logging.getLogger(__name__)

GARBAGE_AFTER = 5000
"""After so many new objects those in circles are looked for: there are next to none."""

DETACH_GRACE_S = 20.0
"""How long programs may go on using a detached mount at SIGTERM."""
LEAVING_GRACE_S = 0.5
"""The same, if the next mount is to take its place."""
DRAIN_WAIT_S = 60.0
"""How long an unmount waits, in all, for a store that is out of reach."""
FETCH_TIMEOUT_S = 20.0
"""How long the kernel may take then to send what they have written."""
REPORTED_PATHS_MAX = 20


def run(config: MountConfig, manager: Manager, ready: Callable[[], None]) -> int:
    """Mount, serve until unmounted, and return the exit code.

    `ready` is called once, when the mount answers, and the service manager is told
    how the mount does. Raises `UsageError` for what the user must mend.
    """
    # Until somebody listens, and after: it asks for what is read at the mount anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        return trio.run(_run, config, manager, ready)
    except BaseExceptionGroup as group:
        raise _first_cause(group) from group


def _first_cause(group: BaseExceptionGroup) -> BaseException:
    """Return what the user can mend, if anybody said so, or else the first failure."""
    usage = list(_leaves(group, UsageError))
    return usage[0] if usage else next(_leaves(group, BaseException))


def _leaves(error: BaseException, kind: type[BaseException]) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner, kind)
    elif isinstance(error, kind):
        yield error


async def _run(config: MountConfig, manager: Manager, ready: Callable[[], None]) -> int:
    identity = identity_of(config)
    async with AsyncExitStack() as stack:
        meter = Meter(Tracer())
        record_with(meter)
        base = open_base(config)
        stack.push_async_callback(base.close)
        missing = await check_store(base, config)
        state_dir = config.state_dir / identity
        _lock(stack, state_dir, config, manager)
        layers = Stack(base, config, state_dir, missing=missing, meter=meter)
        work = Work(layers.activity, lambda: layers.under_way)
        service = Service(manager, work)
        await stack.enter_async_context(_beside(service.run))
        if layers.may_find_out:
            await find_out_at_once(layers, config)
        budget = Budget(config.cache_size, _floor(config))
        filesystem = await open_filesystem(stack, layers, budget, config)
        settle = None
        if layers.is_reached:
            service.say("going on where an earlier mount ended")
            await take_up(filesystem, config)
        else:
            settle = partial(take_up_late, layers, filesystem, config)
        prober = Prober(layers.watched, layers.health, settle=settle)
        await stack.enter_async_context(_beside(prober.run))
        await _listen(stack, filesystem, config)
        reporter = Reporter(config, filesystem, budget, state_dir, health=layers.health)
        audit = audit_of(layers.watched, config, identity, is_in_use=True)
        warmer = Warmer(filesystem, budget)
        live = Live(config, appliers_of(filesystem, budget, layers.brakes))
        reread = partial(live.reread_at_hangup, service.reloading)
        await stack.enter_async_context(_beside(reread))
        mounted = _Mounted(
            config,
            filesystem,
            reporter,
            layers,
            audit,
            warmer,
            live=live,
            service=service,
        )
        await mounted.run(ready)
    return mounted.exit_code


async def _listen(
    stack: AsyncExitStack, filesystem: FileSystem, config: MountConfig
) -> None:
    """Take in what the store tells beside its objects, if it does."""
    space = open_space(config.url, config.store_options)
    if space is not None:
        stack.push_async_callback(space.close)
        filesystem.space = SpaceMeter(space)
    events = open_events(config.url, config.store_options)
    if events is not None:
        stack.push_async_callback(events.close)
        elsewhere = Elsewhere(filesystem.volume, events)
        await stack.enter_async_context(_beside(elsewhere.run))


def _lock(
    stack: AsyncExitStack, directory: Path, config: MountConfig, manager: Manager
) -> None:
    try:
        try:
            stack.enter_context(DirectoryLock(directory))
        except DirectoryInUse as error:
            manager.extend(EXTENSION_S + takeover.END_TIMEOUT_S)
            if not takeover.from_process(error.owner, config):
                raise
            stack.enter_context(DirectoryLock(directory))
        # For people: the name of the directory tells nobody which store it is of.
        (directory / "url").write_text(f"{config.url}\n")
    except DirectoryInUse as error:
        raise UsageError(
            f"this store is mounted already by process {error.owner}, which uses"
            f" {directory}; unmount it first, or give this mount a --state-dir and a"
            " --cache-dir of its own"
        ) from error
    except OSError as error:
        raise UsageError(
            f"cannot use {directory} ({error.strerror}); choose another --state-dir"
        ) from error


def _floor(config: MountConfig) -> DiskFloor | None:
    if config.min_free == 0:
        return None
    return DiskFloor(config.cache_dir, config.min_free)


# --- running ----------------------------------------------------------------------


class _Mounted:
    """A mount while it lives. Also what the control socket asks."""

    def __init__(
        self,
        config: MountConfig,
        filesystem: FileSystem,
        reporter: Reporter,
        layers: Stack,
        audit: Audit,
        warmer: Warmer,
        *,
        live: Live,
        service: Service,
    ) -> None:
        self._service = service
        self._config = config
        self._live = live
        self._fs = filesystem
        self._reporter = reporter
        self._store = layers.watched
        operations = Operations(filesystem, layers.meter.tracer)
        self._session = Session(operations, config.mount_point)
        waiter = Waiter(filesystem, reporter, fetch_unsent)
        counters = Counters(
            scheme=config.url.partition("://")[0],
            prices=prices_for(config),
            store=layers.meter,
            operations=operations.meter,
            filesystem=filesystem,
        )
        access = Access(filesystem, waiter, is_read_only=config.read_only)
        self.deeds: Mapping[str, Deed | Stream] = {
            **observing(self._look, layers.meter.tracer, self._dump),
            **deeds_of(waiter, audit, warmer, explainer=filesystem.explainer),
            **changes_of(access, live, self.hand_over, self.leave),
        }
        self._counters = counters
        self._has_answered = False
        self._leave = trio.Event()
        self._hurry = trio.Event()
        self._grace_s = DETACH_GRACE_S
        self._draining = trio.CancelScope()
        self._state = State.MOUNTED
        self.exit_code = os.EX_OK

    def status(self, *, is_seen: bool = False) -> Status:
        """Return how the mount does."""
        return dataclasses.replace(
            self._reporter.status(self._state, is_seen=is_seen),
            config_problem=self._live.problem,
            config_waiting=self._live.waiting,
        )

    def _look(self) -> Look:
        """Return how the mount does, counters and all."""
        return Look(self.status(), self._counters.snapshot())

    def _dump(self) -> Mapping[str, object]:
        """Return what it is doing just now, for who has to mend it."""
        return dump(self._live.config, self._fs, current_file())

    def unmount(self) -> None:
        """Begin to leave, as at SIGTERM."""
        self._leave.set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Mount, serve, and leave when unmounted or told to."""
        config = self._config
        await trio.to_thread.run_sync(checks.make_way, config.mount_point)
        control = ControlServer(config.mount_point, self)
        self._session.mount(config.url, _kernel_options(config))
        try:
            async with (
                served(config, self._look),
                _background(control.serve),
                _beside(self._watch),
            ):
                await self._serve(ready)
                self._end()
                self._store.wait_no_longer_than(DRAIN_WAIT_S)
                await self._drain()
                self._report()
                control.finish()
        except BaseException:
            if self._has_answered:
                log.critical("%s ends by an error: the mount is dead", config.url)
                self._session.abandon()
            else:
                self._session.close(is_attached=self._is_attached())
            raise
        # By now nothing is dirty in the kernel: it sent it all when the last program
        # left, or lost it with that program's connection.
        self._session.close(is_attached=self._is_attached())
        abort.forget(config.mount_point)

    async def _drain(self) -> None:
        """Send what is left, until a new mount of the store wants to do that."""
        await self._fs.commits.commit_all()
        if self._config.durability == "journal":
            await self._fs.keep_times()
            # What is left from here on is in the journal, for whoever opens it next.
            with self._draining:
                await self._fs.finish()
        else:
            await self._fs.finish()

    async def hand_over(self) -> Outcome:
        """Leave what is in the journal to a new mount; return when that is begun."""
        if self._state is State.MOUNTED:
            return Outcome(error="this mount is in use", code=UsageError.exit_code)
        log.info("a new mount goes on with what is pending")
        self._draining.cancel()
        return Outcome()

    async def leave(self) -> Outcome:
        """Begin to end, and leave what is in the journal to the next mount.

        The mount is to be there again soon, so programs that use it lose it soon.
        """
        log.info("told to end, and to leave to the next mount what is pending")
        self._grace_s = min(self._grace_s, LEAVING_GRACE_S)
        self._draining.cancel()
        self._leave.set()
        return Outcome()

    async def _serve(self, ready: Callable[[], None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._leave_at_signals)
            nursery.start_soon(self._leave_when_told)
            nursery.start_soon(notify_kernel, self._fs.outdated)
            nursery.start_soon(self._fs.store_times)
            nursery.start_soon(self._fs.walks.run)
            nursery.start_soon(self._fs.renewals.run)
            nursery.start_soon(self._fs.foresight.run)
            nursery.start_soon(self._fs.room.run)
            activity = self._fs.volume.activity
            nursery.start_soon(push_to_kernel, self._fs.pushes.receiving, activity)
            nursery.start_soon(self._announce, ready)
            await self._session.serve()
            nursery.cancel_scope.cancel()

    async def _announce(self, ready: Callable[[], None]) -> None:
        device = await self._session.wait_until_it_answers()
        self._fs.openers.device = device
        abort.remember(self._config.mount_point, device)
        note = partial(note_umount_helper, self._config.url, self._config.mount_point)
        if problem := await trio.to_thread.run_sync(note):
            log.warning("umount(8) will not wait for the store: %s", problem)
        gates = ", ".join(self._config.features.names()) or "none"
        log.info(
            "mounted %s at %s; virtual operations: %s",
            self._config.url,
            self._config.mount_point,
            gates,
        )
        # What is here by now stays: looking through it for garbage, again and again,
        # would stop all programs for a twentieth of a second each time.
        gc.freeze()
        gc.set_threshold(GARBAGE_AFTER, 10, 10)
        self._has_answered = True
        self._service.ready(self.status)
        ready()

    async def _watch(self) -> None:
        volume, mount_point = self._fs.volume, self._config.mount_point
        pulse = Pulse(volume.journal, mount_point, volume.activity, self._is_mounted)
        await self._service.watch(pulse)

    def _is_mounted(self) -> bool:
        return self._has_answered and self._state is State.MOUNTED

    def _end(self) -> None:
        """Begin to end: from now on what is pending is sent, and no more is taken."""
        if self._state is State.MOUNTED:
            self._state = State.DRAINING
            self._service.stopping()

    def _is_attached(self) -> bool:
        """Tell whether nobody has detached the mount yet (umount --lazy)."""
        device = self._fs.openers.device
        return mounts.is_mounted_as(self._config.mount_point, device)

    async def _leave_at_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                if self._hurry.is_set():
                    self._session.terminate()
                elif self._leave.is_set():
                    self._hurry.set()
                self._leave.set()

    async def _leave_when_told(self) -> None:
        await self._leave.wait()
        self._end()
        if self._is_attached():
            await self._session.detach()
        # Whoever has a file open may go on for a while; its data still arrive.
        with trio.move_on_after(self._grace_s):
            await self._hurry.wait()
        log.warning("programs still use %s; leaving them", self._config.mount_point)
        inodes = self._fs.files.being_written()
        await fetch_unsent(inodes, timeout_s=FETCH_TIMEOUT_S)
        self._session.terminate()

    def _report(self) -> None:
        self._state = State.DONE
        status = self.status()
        self._service.ended(status)
        if status.pending_files:
            self.exit_code = EXIT_PENDING
            is_expected = self._draining.cancel_called
            log.log(
                logging.INFO if is_expected else logging.ERROR,
                "%d files are not in the store and wait in %s for the next mount: %s",
                status.pending_files,
                self._config.state_dir,
                ", ".join(status.waiting[:REPORTED_PATHS_MAX]),
            )
        else:
            log.info("unmounted %s; everything is in the store", self._config.url)
        if status.local_only_files:
            log.info(
                "local-only files stay in %s: %d",
                self._config.state_dir,
                status.local_only_files,
            )


def _kernel_options(config: MountConfig) -> set[str]:
    """Return the words that the kernel is to mount with."""
    words = {
        "allow_other": config.allow_other,
        "ro": config.read_only,
        "noexec": config.noexec,
        "sync": config.sync,
        "noatime": config.noatime,
    }
    return {word for word, is_wanted in words.items() if is_wanted}


@asynccontextmanager
async def _beside(task: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run a task until the block ends."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _background(task: Callable[..., Awaitable[object]]) -> AsyncIterator[None]:
    """Run a task beside the block, and cancel it if the block fails."""
    async with trio.open_nursery() as nursery:
        await nursery.start(task)
        yield

"""The store of one mount: opened, checked, wrapped inner to outer, tried out.

With `--lazy` a store that does not answer is no error: it begins OFFLINE, claims no
more than is certain, and is tried out when it answers for the first time.
"""

import json
import logging
import math
from pathlib import Path

from mountfs.backends import open_store
from mountfs.cache.activity import Activity
from mountfs.cache.attribute_index import AttributeIndex
from mountfs.cache.indexed import IndexedStorager
from mountfs.cache.indexed_files import ALL_KINDS, IndexedFiles
from mountfs.cache.metered import MeteredStorager
from mountfs.configuration.config import MountConfig
from mountfs.errors import StoreAway, UsageError
from mountfs.sentences import reason_of, sentence_about
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.brakes import Brakes, BrakeStorager
from mountfs.storage.errors import (
    BucketNotFound,
    CredentialsRejected,
    NotFound,
    PermissionDenied,
    ServiceFailed,
    StoreError,
    Throttled,
    Unreachable,
)
from mountfs.storage.health import Cause, Health, State, cause_of
from mountfs.storage.limit import Limits, LimitStorager
from mountfs.storage.meter import CountedStorager, Meter
from mountfs.storage.probe import NarrowedStorager, Probe, probe_store
from mountfs.storage.protocol import Storager
from mountfs.storage.readonly import ReadOnlyStorager
from mountfs.storage.retry import RetryStorager
from mountfs.storage.types import OfflinePolicy
from mountfs.storage.vetted import VettedStorager
from mountfs.storage.virtual import VirtualStorager
from mountfs.storage.watched import HealthStorager

log = logging.getLogger(__name__)

OUTAGE_ATTEMPTS = 12
"""Over some seconds: until it is known that the store is out of reach."""
LAZY_CHECK_S = 3.0
"""How long `--lazy` waits for the first answer."""
_MAY_MEND_ITSELF = (Unreachable, ServiceFailed, Throttled)
_MAY_PASS = (*_MAY_MEND_ITSELF, CredentialsRejected)
"""What `--lazy` takes for a store that is away. The rest is a slip of the user."""


def open_base(config: MountConfig) -> Storager:
    """Open the store that a mount is of; nothing is sent. Raises `UsageError`."""
    try:
        store: Storager = VettedStorager(open_store(config.url, config.store_options))
    except StoreError as error:
        raise UsageError(sentence_about(config.url, error)) from error
    return ReadOnlyStorager(store) if config.read_only else store


async def check_store(store: Storager, config: MountConfig) -> StoreError | None:
    """Ask for one page, so that what is wrong shows now. Raises `UsageError`.

    Returns what is wrong, if that is to be waited for.
    """
    policy = RetryPolicy(attempts=2)
    if config.lazy:
        policy = RetryPolicy(attempts=2, metadata_s=LAZY_CHECK_S)
    try:
        await RetryStorager(store, policy).list("", limit=1)
    except StoreError as error:
        if isinstance(error, NotFound) and not isinstance(error, BucketNotFound):
            return None
        if config.lazy and isinstance(error, _MAY_PASS):
            return error
        kind = StoreAway if isinstance(error, _MAY_MEND_ITSELF) else UsageError
        raise kind(sentence_about(config.url, error)) from error
    return None


def brakes_of(config: MountConfig) -> Brakes:
    """Return the limits over time that the user wants."""
    brakes = Brakes()
    brakes.up.limit(config.bwlimit_up)
    brakes.down.limit(config.bwlimit_down)
    brakes.requests.limit(config.max_requests_per_second)
    return brakes


class Stack:
    """A store and what is around it; `docs/explanation/architecture.md` says why."""

    def __init__(
        self,
        base: Storager,
        config: MountConfig,
        state_dir: Path,
        *,
        missing: StoreError | None = None,
        meter: Meter,
    ) -> None:
        """`missing` is why the store cannot be reached yet."""
        self._config = config
        self.activity = Activity()
        """What the mount does; who does something adds to it."""
        self._remembered = state_dir / "probe.json"
        self.meter = meter
        self.health = Health()
        if missing is not None:
            cause = cause_of(missing) or Cause.UNREACHABLE
            self.health.begin_offline(cause, missing.reason)
        self.brakes = brakes_of(config)
        self._limited = LimitStorager(CountedStorager(base, meter), Limits())
        braked = BrakeStorager(self._limited, self.brakes)
        self.watched = HealthStorager(braked, self.health, config.offline)
        waits = config.offline is OfflinePolicy.WAIT
        policy = RetryPolicy(outage_attempts=math.inf if waits else OUTAGE_ATTEMPTS)
        self._retried = RetryStorager(
            self.watched, policy, refusals=self.watched.refusals
        )
        self._narrowed = NarrowedStorager(
            MeteredStorager(self._retried, self.activity),
            Probe.of_nothing(self._retried.capabilities),
        )
        self._virtual = VirtualStorager(self._narrowed, config.features)
        self._indexed: IndexedStorager | None = None

    @property
    def under_way(self) -> int:
        """How many requests are at the store, or wait for a turn that will come."""
        return self._limited.under_way + self.brakes.waiting

    @property
    def store(self) -> Storager:
        """The whole stack."""
        return self._virtual if self._indexed is None else self._indexed

    @property
    def is_reached(self) -> bool:
        """Whether the store has answered yet."""
        return self.health.state is not State.OFFLINE

    def add_index(self, index: AttributeIndex) -> None:
        """Keep in an index what the store has no place for."""
        is_all = index.kinds == ALL_KINDS
        kind = IndexedFiles if is_all else IndexedStorager
        self._indexed = kind(self._virtual, index)

    def believes_all(self) -> bool:
        """Tell whether what is known is to be believed now, whatever its age."""
        is_wanted = self._config.offline is OfflinePolicy.CACHED
        return is_wanted and self.health.state is State.OFFLINE

    @property
    def may_find_out(self) -> bool:
        """Whether `find_out` can do its work now."""
        is_recalled = self._config.read_only or self._recalled() is not None
        return is_recalled or self.is_reached

    async def find_out(self) -> None:
        """Find out, once per store, what it really honours.

        Raises what the store raises if that has failed, and `OSError` if it is known
        and cannot be written down.
        """
        found = self._recalled()
        is_new = found is None and not self._config.read_only
        if is_new:
            found = await self._tried_out()
        self._narrowed.take_in(found or Probe.of_claims(self._retried.capabilities))
        if found is not None and not self._config.read_only:
            self._warn_of_ignored()
        self._virtual.take_capabilities()
        if self._indexed is not None:
            self._indexed.take_capabilities()
        if is_new and found is not None:
            self._remembered.write_text(json.dumps(found.to_json()))

    def _warn_of_ignored(self) -> None:
        if ignored := self._narrowed.ignored:
            log.warning(
                "this store ignores conditions (%s): mountfs looks at an object just"
                " before it writes, and what another client changes in between is"
                " overwritten; let only one mount write to a file at a time",
                ", ".join(call.value for call in ignored),
            )

    def _recalled(self) -> Probe | None:
        try:
            return Probe.from_json(json.loads(self._remembered.read_text()))
        except (OSError, ValueError, KeyError):
            log.debug("nothing is remembered of what the store honours")
            return None

    async def _tried_out(self) -> Probe | None:
        """Try the store out; None if the credentials do not allow it."""
        try:
            return await probe_store(self._retried)
        except PermissionDenied as error:
            if isinstance(error, CredentialsRejected) and self._config.lazy:
                raise
            log.warning("the credentials cannot write: every write will be refused")
            return None


async def find_out_at_once(stack: Stack, config: MountConfig) -> None:
    """Find out what the store honours, before it is mounted. Raises `UsageError`."""
    try:
        await stack.find_out()
    except StoreError as error:
        raise UsageError(
            f"{config.url}: the store failed a trial write ({reason_of(error)}); mount"
            " with --read-only if nothing is to be written"
        ) from error
    except OSError as error:
        raise UsageError(
            f"cannot write {error.filename} ({error.strerror}); make room there, or"
            " choose another --state-dir"
        ) from error

"""The stores that the conformance suite runs on: a table of factories.

A factory makes a new, empty store. To add a store to the suite, add a line to
`FACTORIES`. A quirk is a promise that the service breaks and no capability tells; the
tests that meet one assert what the service does instead.
"""

import dataclasses
import enum
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trio

from mountfs.backends import open_store
from mountfs.backends.local import LocalStore
from mountfs.backends.memory import MEMORY_CAPABILITIES, MemoryStore
from mountfs.backends.memory_bucket import Bucket
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.limit import Limits, LimitStorager
from mountfs.storage.protocol import Storager
from mountfs.storage.retry import RetryStorager
from mountfs.storage.types import Features, ListMode, MultipartLimits, Page
from mountfs.storage.vetted import VettedStorager
from mountfs.storage.virtual import VirtualStorager
from mountfs.storage.wrapper import StoragerWrapper
from tests.fakes.dropbox_fixtures import options_of
from tests.fakes.faulty import FaultyStore
from tests.fakes.gcs_fixtures import GCS_BUCKET

# Small limits, so that a test reaches them.
SMALL = dataclasses.replace(
    MEMORY_CAPABILITIES,
    multipart=MultipartLimits(part_size_min=10, part_size_max=1000, parts_max=20),
    list_page_max=50,
    write_size_max=8 << 20,
    key_size_max=600,
)


class Quirk(enum.Enum):
    """A promise that a service breaks although its interface is the same."""

    CLOCK_IN_SECONDS = "time stamps are cut to seconds"
    REWRITES_KEYS = "keys with //, a leading / or \\ are stored as others"
    REFUSES_NEWLINES = "a key with a newline is not found"
    REFUSES_RETURNS = "a key with a carriage return is refused"
    DROPS_EMPTY_VALUES = "user metadata with an empty value are dropped"
    NAMES_NO_CONDITION = "a refusal does not say which of two conditions failed"
    DELETE_NEEDS_OBJECT = "a conditional delete of what is absent is refused"
    LISTS_OLD_PARTS = "a replaced part is listed beside the new one"
    KNOWS_NO_DEAD_UPLOADS = "going on with an aborted upload is an internal error"
    COMPLETES_ANYTHING = "an upload completes with parts that never arrived"
    DROPS_ACLS_AND_REDIRECTS = "the ACL and the redirect put with an object are lost"
    HOLDS_BY_PUT_ALONE = "a hold is refused with a copy and lost with an upload"
    HAS_NO_KMS = "a request that asks for aws:kms is an internal error"
    COPIES_NO_CUSTOMER_PARTS = "a part cannot be copied from an object with a key"
    FOLDS_CASE = "names that differ in case alone are one: the second is refused"
    HIDES_ENCRYPTION_OF_MARKERS = "a key that ends in / tells no encryption"


@dataclass(frozen=True, slots=True)
class Subject:
    """A store under test, and how to open the same place once more."""

    open: Callable[[], Storager]
    quirks: frozenset[Quirk] = frozenset()


class EmptyPages(StoragerWrapper):
    """Puts an empty page before each page, as key stores sometimes do."""

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Answer first with nothing but a token."""
        if token is None or not token.startswith("after-empty:"):
            await trio.lowlevel.checkpoint()
            return Page((), f"after-empty:{token or ''}")
        real = token.removeprefix("after-empty:") or None
        return await self._inner.list(prefix, mode=mode, token=real, limit=limit)


_numbers = itertools.count()

Wrap = Callable[[Storager], Storager]
Factory = Callable[[pytest.FixtureRequest], Subject]


def _memory(wrap: Wrap = lambda store: store) -> Factory:
    def make(request: pytest.FixtureRequest) -> Subject:
        bucket = Bucket()
        return Subject(lambda: wrap(MemoryStore(bucket, capabilities=SMALL)))

    return make


def _local(wrap: Wrap = lambda store: store) -> Factory:
    def make(request: pytest.FixtureRequest) -> Subject:
        path = request.getfixturevalue("tmp_path") / "root"
        path.mkdir()
        return Subject(lambda: wrap(LocalStore(path)))

    return make


def _s3(
    server_fixture: str,
    *quirks: Quirk,
    wrap: Wrap = lambda store: store,
    client: str = "light",
) -> Factory:
    def make(request: pytest.FixtureRequest) -> Subject:
        server = request.getfixturevalue(server_fixture)
        bucket = request.getfixturevalue("conformance_buckets")(server)
        # All tests share a bucket, so each of them also tests that roots are apart.
        url = f"s3://{bucket}/test{next(_numbers)}"
        options = {
            "endpoint_url": server.endpoint_url,
            "addressing_style": "path",
            "s3_client": client,
        }
        return Subject(lambda: wrap(open_store(url, options)), frozenset(quirks))

    return make


def _gs(
    server_fixture: str,
    *quirks: Quirk,
    wrap: Wrap = lambda store: store,
    **more: str,
) -> Factory:
    def make(request: pytest.FixtureRequest) -> Subject:
        endpoint_url = request.getfixturevalue(server_fixture)
        url = f"gs://{GCS_BUCKET}/test{next(_numbers)}"
        options = {"endpoint_url": endpoint_url, "no_sign_request": True, **more}
        return Subject(lambda: wrap(open_store(url, options)), frozenset(quirks))

    return make


def _dropbox(wrap: Wrap = lambda store: store) -> Factory:
    def make(request: pytest.FixtureRequest) -> Subject:
        server = request.getfixturevalue("dropbox_shared")
        url = f"dropbox:///test{next(_numbers)}"
        options = options_of(server)
        quirks = frozenset({Quirk.CLOCK_IN_SECONDS, Quirk.FOLDS_CASE})
        return Subject(lambda: wrap(open_store(url, options)), quirks)

    return make


def _limited(store: Storager) -> Storager:
    return LimitStorager(VettedStorager(store), Limits(metadata=4, reads=2, uploads=2))


def _retried(store: Storager) -> Storager:
    return RetryStorager(store, RetryPolicy())


def _emulated(store: Storager) -> Storager:
    return VirtualStorager(store, Features.all())


def _everything(store: Storager) -> Storager:
    strict = dataclasses.replace(Features.all(), loose_operation=False)
    return VirtualStorager(_retried(_limited(store)), strict)


def _stacked(store: Storager) -> Storager:
    mounted = Features.for_mounts()
    return VirtualStorager(_retried(_limited(store)), mounted)


MOTO = (
    Quirk.CLOCK_IN_SECONDS,
    Quirk.REFUSES_NEWLINES,
    Quirk.KNOWS_NO_DEAD_UPLOADS,
    Quirk.HOLDS_BY_PUT_ALONE,
)
SEAWEEDFS = (
    Quirk.CLOCK_IN_SECONDS,
    Quirk.REWRITES_KEYS,
    Quirk.DROPS_EMPTY_VALUES,
    Quirk.NAMES_NO_CONDITION,
    Quirk.LISTS_OLD_PARTS,
    Quirk.COMPLETES_ANYTHING,
    Quirk.DROPS_ACLS_AND_REDIRECTS,
    Quirk.HAS_NO_KMS,
    Quirk.COPIES_NO_CUSTOMER_PARTS,
    Quirk.HIDES_ENCRYPTION_OF_MARKERS,
)
S3_QUIRKS: dict[str, tuple[Quirk, ...]] = {"moto": MOTO, "seaweedfs": SEAWEEDFS}

GCS = (Quirk.REFUSES_NEWLINES, Quirk.REFUSES_RETURNS)
LACKS: dict[str, dict[str, str]] = {
    "gs-fake-gcs-server": {
        "test_an_append_goes_on_behind_its_base": "compose keeps the generation",
        "test_a_replaced_base_is_told": "compose ignores preconditions",
        "test_a_deleted_base_is_told": "compose ignores preconditions",
        "test_appends_at_once_lose_nothing_in_silence": "compose ignores them",
        "test_pages_join_to_the_whole": "pages have all prefixes, whatever their size",
        "test_a_foreign_header_survives": "rewrite ignores the storage class",
        "test_metadata_come_back": "a read does not tell the metageneration",
        "test_setting_metadata_leaves_the_bytes": "a patch takes no names away",
        "test_over_a_thousand_entries_are_listed": "it takes 17 seconds for that",
        "test_many_are_deleted_in_one_call": "it takes 4 seconds for that",
    }
}
"""The tests that are not run on a store, and what the server lacks for them; the same
tests run on `gs-strict`."""

FACTORIES: dict[str, Factory] = {
    "memory": _memory(),
    "memory-empty-pages": _memory(EmptyPages),
    "memory-faulty": _memory(FaultyStore),
    "memory-limit": _memory(_limited),
    "memory-retry": _memory(_retried),
    "memory-virtual": _memory(_emulated),
    "memory-stack": _memory(_stacked),
    "local": _local(),
    "local-stack": _local(_stacked),
    "local-everything": _local(_everything),
    "dropbox": _dropbox(),
    "dropbox-everything": _dropbox(_everything),
    "s3-moto": _s3("moto_strict_server", *MOTO),
    "s3-moto-boto3": _s3("moto_strict_server", *MOTO, client="boto3"),
    "s3-moto-everything": _s3("moto_strict_server", *MOTO, wrap=_everything),
    "s3-seaweedfs": _s3("seaweedfs_server", *SEAWEEDFS, Quirk.DELETE_NEEDS_OBJECT),
    "s3-seaweedfs-strict": _s3("seaweedfs_strict_server", *SEAWEEDFS),
    "gs-strict": _gs("gcs_strict_url", *GCS),
    "gs-strict-everything": _gs("gcs_strict_url", *GCS, wrap=_everything),
    # Of preconditions it keeps those of uploads alone.
    "gs-fake-gcs-server": _gs("fake_gcs_server_url", *GCS, conditions="write"),
}

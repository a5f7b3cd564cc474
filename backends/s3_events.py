"""Changes made elsewhere: notifications of a bucket, from a queue of SQS.

The bucket sends what happens to its objects to a queue, which this mount has for
itself. A message is deleted when the next ones are asked for: what it told has been
taken in by then, and a process that ended before finds it again.
"""

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import boto3
import trio
from botocore.config import Config

from mountfs import __version__
from mountfs.backends._threads import Threads
from mountfs.backends.s3_client import new_session
from mountfs.backends.s3_connections import hold_connections
from mountfs.backends.s3_errors import translated
from mountfs.backends.s3_keys import KeySpace
from mountfs.backends.s3_notifications import Malformed, changes_of
from mountfs.backends.s3_options import QUEUE, S3Options, parse_options, split_url
from mountfs.storage.errors import (
    CredentialsRejected,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    StoreError,
)
from mountfs.storage.events import Change, EventSource

log = logging.getLogger(__name__)

T = TypeVar("T")
Message = Mapping[str, Any]

WAIT_S = 20
"""So long a question waits for a message; SQS allows no more."""
BATCH_MAX = 10
"""The most messages of one answer, and of one deletion."""
ROUNDS_MAX, AT_ONCE = 12, 8
"""So many answers come together if many messages wait: about a thousand of them."""
_GONE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_REFUSED = frozenset({"AccessDeniedException", "KmsAccessDenied"})
_LATER = (CredentialsRejected, NotFound)
_NO_SUCH_KEY = "InvalidClientTokenId"


def open_events(url: str, options: Mapping[str, object]) -> EventSource | None:
    """Return what tells of changes in a bucket; None if no queue is named."""
    known = parse_options(options)
    if known.events is None:
        return None
    return QueueEvents(KeySpace(*split_url(url)), known)


class Queue(NamedTuple):
    """What the option names; what is None is that of the store."""

    name: str
    region: str | None = None
    account: str | None = None

    @classmethod
    def parsed(cls, text: str) -> "Queue":
        """Return the queue that a checked option names."""
        match = re.fullmatch(QUEUE, text)
        assert match is not None
        told = match.groupdict()
        return cls(told["name"], told["region"], told["account"])

    def __str__(self) -> str:
        """Return how the queue is called in sentences."""
        whose = f" of the account {self.account}" if self.account else ""
        return f"the queue {self.name}{whose}"


class _Meta(Protocol):
    region_name: str
    endpoint_url: str


class SqsClient(Protocol):
    """What is asked of the SDK."""

    meta: _Meta

    def get_queue_url(self, **more: object) -> Mapping[str, str]:
        """Find the URL of a queue."""
        ...

    def receive_message(self, **more: object) -> Mapping[str, Any]:
        """Wait for messages."""
        ...

    def delete_message_batch(self, **more: object) -> Mapping[str, Any]:
        """Delete messages."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class QueueEvents:
    """Tells of changes below one root."""

    def __init__(self, keys: KeySpace, options: S3Options) -> None:
        assert options.events is not None
        self._keys = keys
        self._options = options
        self._queue = Queue.parsed(options.events)
        self._threads = Threads(AT_ONCE)
        self._lock = threading.Lock()
        self._client: SqsClient | None = None
        self._url: str | None = None
        self._told: list[str] = []
        """The receipts of what was returned, which go when we are asked on."""
        self._warned: set[str] = set()

    async def changes(self) -> Sequence[Change]:
        """Wait a while for something to come, and return it."""
        await self._delete_told()
        found: list[Change] = []
        for message in await self._received():
            found += self._read(message)
        return found

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await trio.to_thread.run_sync(client.close)

    # --- messages -----------------------------------------------------------------

    async def _received(self) -> list[Message]:
        """Wait for a message; take what else is there along, each message once."""
        batch = await self._run(partial(self._receive, WAIT_S))
        found = {str(each["MessageId"]): each for each in batch}
        for _ in range(ROUNDS_MAX):
            if len(batch) % BATCH_MAX or not batch:
                break
            known = len(found)
            batch = await self._receive_at_once()
            found.update((str(each["MessageId"]), each) for each in batch)
            if len(found) == known:  # nothing else is there
                break
        return list(found.values())

    async def _receive_at_once(self) -> list[Message]:
        """Ask several times at once; what has come counts, whatever else fails."""
        found: list[Message] = []

        async def receive() -> None:
            try:
                found.extend(await self._run(partial(self._receive, 0)))
            except StoreError as error:
                log.debug("some messages are left for later: %s", error)

        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(receive)
        return found

    def _receive(self, wait_s: int) -> list[Message]:
        reply = self._connected().receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=BATCH_MAX, WaitTimeSeconds=wait_s
        )
        return list(reply.get("Messages", ()))

    def _read(self, message: Message) -> list[Change]:
        self._told.append(str(message["ReceiptHandle"]))
        try:
            return changes_of(str(message.get("Body", "")), self._keys)
        except Malformed as error:
            self._warn("%s holds what is no notification of S3 (%s)", str(error))
            return []

    async def _delete_told(self) -> None:
        """Delete what has been told. What stays is told again, which does no harm."""
        while self._told:
            batch = self._told[:BATCH_MAX]
            try:
                await self._run(partial(self._delete, batch))
            except StoreError as error:
                if error.is_retryable or isinstance(error, _LATER):
                    raise
                self._warn(
                    "what was told stays in %s and is told again and again: %s",
                    error.reason,
                )
            del self._told[:BATCH_MAX]

    def _delete(self, receipts: Sequence[str]) -> None:
        entries = [
            {"Id": str(number), "ReceiptHandle": receipt}
            for number, receipt in enumerate(receipts)
        ]
        self._connected().delete_message_batch(QueueUrl=self._url, Entries=entries)

    def _warn(self, text: str, reason: str) -> None:
        """Warn once of each kind of trouble; the second argument is why."""
        level = logging.DEBUG if text in self._warned else logging.WARNING
        self._warned.add(text)
        log.log(level, text, self._queue, reason)

    # --- the service ----------------------------------------------------------------

    async def _run(self, function: Callable[[], T]) -> T:
        try:
            return await self._threads.run(self._translated, function)
        except CredentialsRejected:
            await self.close()  # the next client looks for new ones
            raise

    def _translated(self, function: Callable[[], T]) -> T:
        try:
            with translated():
                return function()
        except (PermissionDenied, InvalidRequest) as error:
            raise self._explained(error) from error

    def _explained(self, error: StoreError) -> StoreError:
        """Say what an error of the service is about: it knows nothing of S3's."""
        code = error.code
        if code == _NO_SUCH_KEY:
            return CredentialsRejected(error.reason, code=code)
        if isinstance(error, CredentialsRejected):
            return error
        if isinstance(error, PermissionDenied) or code in _REFUSED:
            return PermissionDenied(
                f"the credentials may not use {self._queue}: they need"
                " sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueUrl on it"
                f" ({error.reason})",
                code=code,
            )
        if code not in _GONE:
            return error
        where = self._client.meta.region_name if self._client else "its region"
        return NotFound(
            f"{self._queue} is not in {where}:"
            " --events sqs://REGION/ACCOUNT/QUEUE names one elsewhere",
            code=code,
        )

    def _connected(self) -> SqsClient:
        """Return the client, and know the URL of the queue."""
        with self._lock:  # several threads ask at once
            client = self._client
            if client is None:
                client = self._client = self._new_client()
            if self._url is None:
                self._url = self._url_by(client)
            return client

    def _url_by(self, client: SqsClient) -> str:
        name, account = self._queue.name, self._queue.account
        if account is not None:
            return f"{client.meta.endpoint_url.rstrip('/')}/{account}/{name}"
        return client.get_queue_url(QueueName=name)["QueueUrl"]

    def _new_client(self) -> SqsClient:
        options = self._options
        session = boto3.session.Session(
            botocore_session=new_session(options.profile),
            region_name=self._queue.region or options.region,
        )
        config = Config(
            retries={"total_max_attempts": 1},
            max_pool_connections=AT_ONCE,
            connect_timeout=options.connect_timeout_s,
            read_timeout=WAIT_S + options.read_timeout_s,
            tcp_keepalive=True,
            user_agent_extra=f"mountfs/{__version__}",
        )
        client: Any = session.client("sqs", config=config)
        hold_connections(client)
        return cast("SqsClient", client)

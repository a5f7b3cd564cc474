"""Changes made elsewhere: notifications of a bucket, by a subscription of Pub/Sub.

The bucket publishes what happens to its objects to a topic; a subscription to that,
which this mount has for itself, is asked for what has come. Messages may come twice and
out of order, so none is believed further than that something has changed.
"""

import base64
import dataclasses
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from mountfs.backends.gcs_client import GcsClient, Reply
from mountfs.backends.gcs_errors import MALFORMED, understood
from mountfs.backends.gcs_keys import KeySpace, is_hidden
from mountfs.backends.gcs_objects import object_of
from mountfs.backends.gcs_options import GcsOptions, parse_options, split_url
from mountfs.storage.errors import (
    CredentialsRejected,
    NotFound,
    PermissionDenied,
    StoreError,
)
from mountfs.storage.events import Change, EventSource

log = logging.getLogger(__name__)

PUBLIC_ENDPOINT = "https://pubsub.googleapis.com"
EMULATOR_VARIABLE = "PUBSUB_EMULATOR_HOST"
SCOPES = ("https://www.googleapis.com/auth/pubsub",)
MESSAGES_MAX = 1000
PAUSE_S = 1.0
"""Between two questions that were both answered with nothing at once."""
_READ_TIMEOUT_S = 180.0
_GONE = frozenset({"OBJECT_DELETE", "OBJECT_ARCHIVE"})


def open_events(url: str, options: Mapping[str, object]) -> EventSource | None:
    """Return what tells of changes in a bucket; None if no subscription is named."""
    known = parse_options(options)
    if known.events is None:
        return None
    return PubSubEvents(KeySpace(*split_url(url)), known, os.environ)


class PubSubEvents:
    """Tells of changes below one root."""

    def __init__(
        self, keys: KeySpace, options: GcsOptions, environ: Mapping[str, str]
    ) -> None:
        assert options.events is not None
        self._keys = keys
        self._name = f"subscription {options.events}"
        self._path = f"/v1/{options.events}"
        emulator = environ.get(EMULATOR_VARIABLE, "")
        own = dataclasses.replace(
            options,
            endpoint_url=f"http://{emulator}" if emulator else PUBLIC_ENDPOINT,
            no_sign_request=bool(emulator),
            user_project=None,
            read_timeout_s=_READ_TIMEOUT_S,
            requests_max=2,
        )
        self._client = GcsClient(own, scopes=SCOPES)
        self._has_warned = False
        self._told: list[str] = []
        """What was returned, and is acknowledged when we are asked on."""

    async def changes(self) -> Sequence[Change]:
        """Wait a while for something to come, and return it."""
        await self._acknowledge()
        began = time.monotonic()
        messages = await self._pulled()
        with understood():
            self._told = [str(message["ackId"]) for message in messages]
            told = [self._read(each.get("message")) for each in messages]
        # The service keeps the question; an emulator may not.
        if not messages and time.monotonic() - began < PAUSE_S:
            await trio.sleep(PAUSE_S)
        return [change for change in told if change is not None]

    async def _acknowledge(self) -> None:
        if self._told:
            content = {"ackIds": self._told}
            await self._asked("acknowledge", content)
        self._told = []

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def _pulled(self) -> list[Mapping[str, Any]]:
        content = {"maxMessages": MESSAGES_MAX}
        reply = await self._asked("pull", content)
        return list(reply.get("receivedMessages", ()))

    async def _asked(self, what: str, content: object) -> Reply:
        try:
            return await self._client.call(
                "POST", f"{self._path}:{what}", content=content
            )
        except CredentialsRejected:
            raise
        except PermissionDenied as error:
            raise PermissionDenied(
                f"the credentials may not use the {self._name}: they need the role"
                f" Pub/Sub Subscriber on it ({error.reason})",
                code=error.code,
            ) from error
        except NotFound as error:
            raise NotFound(f"there is no {self._name}", code=error.code) from error

    def _read(self, message: Mapping[str, Any] | None) -> Change | None:
        try:
            return self._change(message or {})
        except MALFORMED:  # of some other publisher
            text = "%s holds what is no notification of a bucket"
            level = logging.DEBUG if self._has_warned else logging.WARNING
            self._has_warned = True
            log.log(level, text, self._name)
            return None

    def _change(self, message: Mapping[str, Any]) -> Change | None:
        """Return what a message tells of an object below the root, if it does."""
        about: Mapping[str, str] = message.get("attributes") or {}
        full = str(about.get("objectId", ""))
        is_ours = about.get("bucketId") == self._keys.bucket
        if not is_ours or not full.startswith(self._keys.root):
            return None
        key = self._keys.relative(full)
        if not key or is_hidden(key):
            return None
        if about.get("eventType") in _GONE:
            # One that was overwritten is not gone; the message on the new one comes.
            if "overwrittenByGeneration" in about:
                return None
            return Change(key, is_gone=True)
        try:
            resource = json.loads(base64.b64decode(message.get("data", "")))
            found = object_of(key, resource) if resource.get("generation") else None
        except (*MALFORMED, StoreError):  # the bucket was told to send no payload
            found = None
        return Change(key, found)

"""Many deletions in one request: a batch of the JSON API."""

import re
import secrets
from collections.abc import Sequence

from mountfs.backends.gcs_client import GcsClient
from mountfs.backends.gcs_errors import reply_error
from mountfs.backends.gcs_keys import KeySpace
from mountfs.storage.errors import NotFound, ServiceFailed, StoreError

BATCH_MAX = 100
_PATH = "/batch/storage/v1"
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3})")
_ID = re.compile(rb"content-id:\s*<?response-([0-9]+)>?", re.IGNORECASE)


def delete_batch(
    client: GcsClient, keys: KeySpace, fulls: Sequence[str]
) -> dict[str, StoreError]:
    """Delete up to `BATCH_MAX` objects; return the errors of those that are there.

    `fulls` are keys in the bucket. Called in a thread.
    """
    boundary = secrets.token_hex(16)
    parts = "".join(
        f"--{boundary}\r\ncontent-type: application/http\r\n"
        f"content-id: <{number}>\r\n\r\n"
        f"DELETE {_target(client, keys, full)} HTTP/1.1\r\n\r\n\r\n"
        for number, full in enumerate(fulls)
    )
    answer = client.send(
        "POST",
        client.url(_PATH),
        {"content-type": f"multipart/mixed; boundary={boundary}"},
        f"{parts}--{boundary}--\r\n".encode(),
    )
    found = _errors(answer.body, answer.headers.get("content-type", ""), fulls)
    return {full: error for full, error in found.items() if error is not None}


def _target(client: GcsClient, keys: KeySpace, full: str) -> str:
    path = keys.path_of(full)
    return client.url(path)[len(client.url("", None).partition("?")[0]) :]


def _errors(
    body: bytes, content_type: str, fulls: Sequence[str]
) -> dict[str, StoreError | None]:
    """Return what became of each; what no part of the answer tells of has failed."""
    found: dict[str, StoreError | None] = {
        full: ServiceFailed("the answer tells nothing of this key", key=full)
        for full in fulls
    }
    boundary = content_type.partition("boundary=")[2].partition(";")[0].strip(' "')
    for number, part in enumerate(body.split(b"--" + boundary.encode())[1:-1]):
        status = _STATUS.search(part)
        if status is None:
            continue
        told = _ID.search(part)
        index = int(told[1]) if told else number
        if index >= len(fulls):
            continue
        full = fulls[index]
        error: StoreError | None = None
        if int(status[1]) not in (200, 204):
            inner = part[status.end() :].partition(b"\r\n\r\n")[2].strip()
            error = reply_error(int(status[1]), {}, inner, full)
        found[full] = None if isinstance(error, NotFound) else error
    return found

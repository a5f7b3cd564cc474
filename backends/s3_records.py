"""What is recorded of a request to S3: its name, its answer, its size."""

from collections.abc import Callable, Mapping, Sized
from typing import Any

from botocore.exceptions import ClientError

from mountfs.storage.wire import Exchange, exchange

Reply = Mapping[str, Any]
"""As botocore has it, whoever has sent the request."""


def recorded(
    operation: str, parameters: Mapping[str, object], send: Callable[[], Reply]
) -> Reply:
    """Send one request, and tell whoever wants to know what became of it."""
    body = parameters.get("Body")
    name = operation.title().replace("_", "")
    with exchange(name, sent_bytes=_size_of(body)) as told:
        try:
            reply = send()
        except ClientError as error:
            _note_answer(told, error.response)
            raise
        _note_answer(told, reply)
        if operation == "get_object":
            told.received_bytes = int(reply.get("ContentLength", 0))
        return reply


def _note_answer(told: Exchange, answer: Mapping[str, Any]) -> None:
    about: Mapping[str, Any] = answer.get("ResponseMetadata", {})
    told.status = int(about.get("HTTPStatusCode", 0))
    headers: Mapping[str, str] = about.get("HTTPHeaders", {})
    told.request_id = headers.get("x-amz-request-id", about.get("RequestId", ""))


def _size_of(body: object) -> int:
    return len(body) if isinstance(body, Sized) else 0

"""A fake of Pub/Sub: one subscription to what a bucket tells.

"Subscriptions: pull" waits for messages for a while; what is not acknowledged comes
again. "Pub/Sub notifications for Cloud Storage" says what is in a message.
"""

import base64
import json
import threading
from collections.abc import Mapping
from typing import Any

from tests.fakes.http_proxy import HttpProxy, Reply, Request
from tests.fakes.s3_servers import S3Server

SUBSCRIPTION = "projects/project/subscriptions/mount"
WAIT_S = 1.5


class PubSubServer(HttpProxy):
    """Runs from construction to `close`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: dict[str, dict[str, Any]] = {}
        self.pulls = 0
        self._count = 0
        self._is_open = True
        super().__init__(S3Server("nobody", "http://127.0.0.1:9"))

    @property
    def host(self) -> str:
        """Where it is, as PUBSUB_EMULATOR_HOST says it."""
        return self.endpoint_url.removeprefix("http://")

    @property
    def waiting(self) -> int:
        """How many messages are not acknowledged."""
        with self._changed:
            return len(self._messages)

    def publish(
        self, event: str, bucket: str, resource: Mapping[str, Any], **more: str
    ) -> None:
        """Take a message, as from a topic."""
        attributes = {
            "eventType": event,
            "bucketId": bucket,
            "objectId": resource["name"],
            "objectGeneration": resource["generation"],
            "payloadFormat": "JSON_API_V1",
            **more,
        }
        data = base64.b64encode(json.dumps(resource).encode()).decode()
        with self._changed:
            self._count += 1
            message = {"attributes": attributes, "data": data}
            self._messages[f"ack-{self._count}"] = message
            self._changed.notify_all()

    def answer(self, request: Request) -> Reply:
        """Answer a pull or an acknowledgement of the subscription."""
        asked = json.loads(request.body())
        if request.target == f"/v1/{SUBSCRIPTION}:pull":
            return self._pull(int(asked["maxMessages"]))
        if request.target == f"/v1/{SUBSCRIPTION}:acknowledge":
            with self._changed:
                for id in asked["ackIds"]:
                    self._messages.pop(id, None)
            return Reply(200, [], b"{}")
        error = {"error": {"code": 404, "message": "no such subscription"}}
        return Reply(404, [], json.dumps(error).encode())

    def close(self) -> None:
        """Stop serving."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
        super().close()

    def _pull(self, most: int) -> Reply:
        with self._changed:
            self.pulls += 1
            self._changed.wait_for(lambda: self._messages or not self._is_open, WAIT_S)
            told = [
                {"ackId": id, "message": message}
                for id, message in list(self._messages.items())[:most]
            ]
        body = {"receivedMessages": told} if told else {}
        return Reply(200, [], json.dumps(body).encode())

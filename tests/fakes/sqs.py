"""A queue of SQS on moto, which a bucket tells of its changes."""

import json
from typing import TYPE_CHECKING, Any

import boto3

from tests.fakes.s3_servers import ACCESS_KEY, REGION, SECRET_KEY, S3Server

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNT = "123456789012"


class Queue:
    """One queue; `close` removes it."""

    def __init__(self, server: S3Server, name: str, region: str = REGION) -> None:
        self.name = name
        self.region = region
        self._client: Any = boto3.session.Session().client(
            "sqs",
            endpoint_url=server.endpoint_url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=region,
        )
        self.url: str = self._client.create_queue(
            QueueName=name, Attributes={"VisibilityTimeout": "30"}
        )["QueueUrl"]

    @property
    def arn(self) -> str:
        """What a bucket calls it."""
        return f"arn:aws:sqs:{self.region}:{ACCOUNT}:{self.name}"

    @property
    def waiting(self) -> int:
        """How many messages are not deleted."""
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        told: Mapping[str, str] = self._client.get_queue_attributes(
            QueueUrl=self.url, AttributeNames=list(names)
        )["Attributes"]
        return sum(int(told[name]) for name in names)

    def hear_of(self, server: S3Server, bucket: str) -> None:
        """Let a bucket tell this queue what happens to its objects."""
        configuration = {
            "QueueArn": self.arn,
            "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
        }
        client: Any = server.client()
        client.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={"QueueConfigurations": [configuration]},
        )
        client.close()

    def send(self, *bodies: object) -> None:
        """Put messages in, as text or as JSON."""
        texts = [each if isinstance(each, str) else json.dumps(each) for each in bodies]
        for start in range(0, len(texts), 10):
            entries = [
                {"Id": str(number), "MessageBody": text}
                for number, text in enumerate(texts[start : start + 10])
            ]
            self._client.send_message_batch(QueueUrl=self.url, Entries=entries)

    def hide_nothing(self) -> None:
        """Let a message that was not deleted come again at once."""
        self._client.set_queue_attributes(
            QueueUrl=self.url, Attributes={"VisibilityTimeout": "0"}
        )

    def close(self) -> None:
        """Remove the queue."""
        self._client.delete_queue(QueueUrl=self.url)
        self._client.close()

"""The account: its buckets."""

from mountfs.backends.s3_client import S3Client
from mountfs.backends.s3_options import S3Options
from mountfs.storage.errors import AlreadyExists, ReadOnlyStore

_HOME_REGION = "us-east-1"


class S3Service:
    """One account at one endpoint."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._client = S3Client(options)

    async def list_buckets(self) -> tuple[str, ...]:
        """Send ListBuckets until all have come."""
        names: list[str] = []
        token: str | None = None
        while True:
            reply = await self._client.call(
                "list_buckets", {"ContinuationToken": token}
            )
            names.extend(bucket["Name"] for bucket in reply.get("Buckets", ()))
            token = reply.get("ContinuationToken")
            if not token:
                return tuple(names)

    async def create_bucket(self, name: str) -> None:
        """Send CreateBucket; one that is ours already is success."""
        self._check_write()
        region = self._options.region or _HOME_REGION
        location = {"LocationConstraint": region} if region != _HOME_REGION else None
        try:
            await self._client.call(
                "create_bucket",
                {"Bucket": name, "CreateBucketConfiguration": location},
            )
        except AlreadyExists as error:
            if error.code != "BucketAlreadyOwnedByYou":
                raise

    async def delete_bucket(self, name: str) -> None:
        """Send DeleteBucket. Raises `BucketNotFound`, `DirectoryNotEmpty`."""
        self._check_write()
        await self._client.call("delete_bucket", {"Bucket": name})

    async def close(self) -> None:
        """Close the idle connections."""
        await self._client.close()

    def _check_write(self) -> None:
        if self._options.read_only:
            raise ReadOnlyStore("the store was opened read-only")

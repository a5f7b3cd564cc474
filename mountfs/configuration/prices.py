"""What requests may cost: a price for each class of request, by service.

An estimate and no bill: prices differ by region, storage class and contract, and so
`--request-prices` says others. Storage, traffic and early deletion are not in it.

Sources, both read for the Standard class in November 2026:
Amazon S3, us-east-1, aws.amazon.com/s3/pricing: PUT, COPY, POST and LIST 0.005 dollars
a thousand, GET and all others 0.0004, DELETE and CANCEL nothing.
Google Cloud Storage, one region in the United States, cloud.google.com/storage/pricing:
operations of class A 0.005 dollars a thousand, of class B 0.0004, deletions nothing.
Dropbox charges by account, a directory and the memory nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mountfs.snapshot import Counts

WRITE = "write"
READ = "read"
FREE = "free"

_PER = 1000

_S3_FREE = frozenset(
    {"DeleteObject", "DeleteObjects", "AbortMultipartUpload", "DeleteBucket"}
)
_S3_READS = frozenset({"GetObject", "HeadObject", "HeadBucket", "SelectObjectContent"})
_GCS_FREE = frozenset(
    {"objects.delete", "batch", "uploads.cancel"}
    # Pub/Sub has a bill of its own, by bytes.
    | {"subscriptions.pull", "subscriptions.acknowledge"}
)
_GCS_READS = frozenset({"objects.get", "buckets.get"})


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a thousand requests of each class."""

    write: float
    read: float

    def of(self, kind: str) -> float:
        """Return the price of one request of a class, in US dollars."""
        return {WRITE: self.write, READ: self.read}.get(kind, 0.0) / _PER


S3_PRICES = Prices(write=0.005, read=0.0004)
GCS_PRICES = Prices(write=0.005, read=0.0004)


def class_of(scheme: str, request: str) -> str:
    """Return which class a request belongs to: write, read or free."""
    match scheme:
        case "s3":
            free, reads = _S3_FREE, _S3_READS
            is_read = request in reads or request.startswith(("Get", "Head"))
        case "gs":
            free, reads = _GCS_FREE, _GCS_READS
            is_read = request in reads
        case _:
            return FREE
    if request in free:
        return FREE
    return READ if is_read else WRITE


def prices_of(url: str, endpoint: str | None) -> Prices | None:
    """Return what a service charges; None if that is not known, or nothing.

    Behind an endpoint is a service of somebody else, whose prices nobody here knows.
    """
    scheme = url.partition("://")[0]
    host = urlsplit(endpoint).hostname or "" if endpoint else ""
    if scheme == "s3" and (not host or host.endswith(".amazonaws.com")):
        return S3_PRICES
    if scheme == "gs" and (not host or host.endswith(".googleapis.com")):
        return GCS_PRICES
    return None


def read_prices(text: str) -> Prices:
    """Return prices written as `write=0.005,read=0.0004`. Raises `ValueError`."""
    found: dict[str, float] = {}
    for word in re.split(r"[,:\s]+", text.strip()):
        name, _, price = word.partition("=")
        if name not in (WRITE, READ) or not re.fullmatch(r"\d+(\.\d+)?", price):
            raise ValueError(f"no prices: {text}")
        found[name] = float(price)
    if found.keys() != {WRITE, READ}:
        raise ValueError(f"no prices: {text}")
    return Prices(found[WRITE], found[READ])


def cost_of(scheme: str, requests: Counts, prices: Prices) -> Mapping[str, float]:
    """Return what these requests may have cost, in US dollars by class."""
    cost = {WRITE: 0.0, READ: 0.0}
    for labels, count in requests.items():
        kind, status = class_of(scheme, labels[0]), labels[1]
        # What the service failed at, or never got, it does not charge.
        if kind in cost and status != "none" and not status.startswith("5"):
            cost[kind] += count * prices.of(kind)
    return cost

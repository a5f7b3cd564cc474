"""The metrics: their names, their text, their page, what they say of costs."""

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
import yaml  # type: ignore[import-untyped]  # PyYAML has no types
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from mountfs.backends.gcs_requests import name_of
from mountfs.configuration.prices import (
    GCS_PRICES,
    S3_PRICES,
    class_of,
    cost_of,
    prices_of,
    read_prices,
)
from mountfs.errors import UsageError
from mountfs.serving.metrics_server import (
    CONNECTIONS_MAX,
    LOOK_FREE_S,
    MetricsServer,
)
from mountfs.serving.metrics_text import Look, exposition, families
from mountfs.snapshot import Counts, Snapshot, snapshot_of
from mountfs.status import PendingPath, State, Status
from mountfs.storage.counts import Timings

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _look() -> Look:
    timings = Timings()
    timings.note(0.3)
    status = Status(
        url="s3://bucket/pre",
        mount_point="/mnt/a b",
        pid=1,
        state=State.DRAINING,
        store_state="offline",
        pending_files=2,
        pending=(PendingPath(path="secret name", size=1, error="refused"),),
    )
    snapshot = Snapshot(
        operations={("read", "ok"): 5, ("read", "EIO"): 1},
        operation_times={"read": timings.times()},
        calls={("read", "throttled", "prefetch"): 2},
        requests={("GetObject", "503", "prefetch"): 2},
        request_times={"GetObject": timings.times()},
        sent_bytes=7,
        retries=3,
        cost={"write": 0.00123, "read": 0.0},
    )
    return Look(status, snapshot)


def _full_names(found: Iterable[Metric]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    endings = {"counter": "_total", "info": "_info"}
    for family in found:
        labels = tuple(getattr(family, "_labelnames", ()) or ())
        if family.type == "info":
            labels = tuple(family.samples[0].labels)
        yield family.name + endings.get(family.type, ""), family.type, labels


def test_prometheus_reads_what_is_told() -> None:
    """The text is Prometheus's own format, and has the numbers."""
    read = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition(_look()))
        for sample in family.samples
    }

    name = "mountfs_operations_total"
    assert read[name, ("operation", "read"), ("outcome", "EIO")] == 1
    name = "mountfs_operation_duration_seconds_bucket"
    assert read[name, ("le", "0.25"), ("operation", "read")] == 0
    assert read[name, ("le", "0.5"), ("operation", "read")] == 1
    assert read[name, ("le", "+Inf"), ("operation", "read")] == 1
    assert read["mountfs_store_state", ("state", "offline")] == 1
    assert read["mountfs_store_state", ("state", "online")] == 0
    assert read["mountfs_pending_failed_files",] == 1
    name = "mountfs_store_request_cost_dollars_total"
    assert read[name, ("class", "write")] == 0.00123


def test_no_label_has_the_name_of_a_file() -> None:
    """What is pending is counted, not named."""
    assert "secret name" not in exposition(_look())


def test_a_mount_point_that_is_no_text_can_be_told() -> None:
    """A path may hold any byte, and what is told must be UTF-8."""
    status = dataclasses.replace(_look().status, mount_point="/mnt/\udcff")

    told = exposition(_look()._replace(status=status))

    assert r'mount_point="/mnt/\\udcff"' in told


def test_names_follow_the_rules_of_prometheus() -> None:
    """One prefix, base units, counters end in _total and nothing else does."""
    for name, kind, _ in _full_names(families(_look())):
        assert re.fullmatch(r"mountfs_[a-z][a-z_]*", name)
        assert name.endswith("_total") is (kind == "counter")
        assert not re.search(r"_(ms|milliseconds|kib|mib|percent|count)\b", name)


def test_the_page_has_every_metric_and_no_other() -> None:
    """Name, type and labels in the reference are those of the program."""
    text = (DOCS / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(mountfs_\w+)` \| (\w+) \| (.*?) \|", text, re.MULTILINE)
    described = {
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in rows
    }

    assert described == set(_full_names(families(_look())))


def test_a_snapshot_survives_its_journey() -> None:
    """What a command is told is what the daemon knew; what is missing is nothing."""
    snapshot = _look().snapshot

    assert snapshot_of(snapshot.told()) == snapshot
    assert snapshot_of({"operations": 3, "later": {}}) == Snapshot()


# --- costs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "request_name", "kind"),
    [
        ("s3", "PutObject", "write"),
        ("s3", "ListObjectsV2", "write"),
        ("s3", "CopyObject", "write"),
        ("s3", "UploadPartCopy", "write"),
        ("s3", "GetObject", "read"),
        ("s3", "HeadObject", "read"),
        ("s3", "DeleteObjects", "free"),
        ("s3", "AbortMultipartUpload", "free"),
        ("gs", "objects.insert", "write"),
        ("gs", "objects.list", "write"),
        ("gs", "objects.get", "read"),
        ("gs", "objects.delete", "free"),
        ("dropbox", "files/upload", "free"),
    ],
)
def test_each_request_has_its_class(scheme: str, request_name: str, kind: str) -> None:
    """Prices go by the classes that the services have."""
    assert class_of(scheme, request_name) == kind


def test_a_cost_is_the_sum_of_what_was_answered() -> None:
    """What failed at the service, or never arrived, is not charged."""
    requests: Counts = {
        ("PutObject", "200", "foreground"): 2000,
        ("PutObject", "503", "foreground"): 100,
        ("GetObject", "none", "foreground"): 100,
        ("HeadObject", "404", "foreground"): 1000,
        ("DeleteObject", "204", "foreground"): 1000,
    }

    cost = cost_of("s3", requests, S3_PRICES)

    assert cost == pytest.approx({"write": 0.01, "read": 0.0004})


def test_prices_are_those_of_the_service_that_is_spoken_to() -> None:
    """Nobody here knows what somebody else's service charges."""
    assert prices_of("s3://b", None) == S3_PRICES
    assert prices_of("s3://b", "https://s3.eu-west-1.amazonaws.com") == S3_PRICES
    assert prices_of("s3://b", "https://s3.example.org") is None
    assert prices_of("gs://b", None) == GCS_PRICES
    assert prices_of("dropbox:///", None) is None
    assert read_prices("write=0.0045:read=0") == type(S3_PRICES)(0.0045, 0.0)
    for wrong in ("write=1", "write=a,read=1", "read=-1,write=1", ""):
        with pytest.raises(ValueError, match="no prices"):
            read_prices(wrong)


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/storage/v1/b/b/o?prefix=x", "objects.list"),
        ("GET", "/storage/v1/b/b/o/a%2Fb?alt=media", "objects.get"),
        ("POST", "/upload/storage/v1/b/b/o?uploadType=multipart", "objects.insert"),
        ("PUT", "/upload/storage/v1/b/b/o?upload_id=1", "objects.insert"),
        ("POST", "/storage/v1/b/b/o/a/rewriteTo/b/b/o/c", "objects.rewrite"),
        ("POST", "/storage/v1/b/b/o/a/compose", "objects.compose"),
        ("PATCH", "/storage/v1/b/b/o/a", "objects.patch"),
        ("DELETE", "/storage/v1/b/b/o/a", "objects.delete"),
        ("POST", "/batch/storage/v1", "batch"),
        ("POST", "/v1/projects/p/subscriptions/s:pull", "subscriptions.pull"),
        ("POST", "/what/ever", "other"),
    ],
)
def test_requests_to_google_have_the_names_of_its_methods(
    method: str, path: str, name: str
) -> None:
    """The bill goes by them."""
    assert name_of(method, f"https://storage.googleapis.com{path}") == name


# --- the port -----------------------------------------------------------------------


async def _get(port: int, request: bytes) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(request)
        return b"".join([chunk async for chunk in stream])


async def _serving(
    nursery: trio.Nursery,
    look: Callable[[], Look] = _look,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    with trio.socket.socket() as probe:
        await probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    await nursery.start(MetricsServer("127.0.0.1", port, look, clock=clock).serve)
    return port


async def test_prometheus_is_answered_over_http(nursery: trio.Nursery) -> None:
    """GET /metrics has the metrics, anything else a short refusal."""
    port = await _serving(nursery)

    answer = await _get(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=")
    assert b"\nmountfs_store_retries_total 3.0\n" in body
    newer = b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n"
    assert (await _get(port, newer)).endswith(b"# EOF\n")
    assert (await _get(port, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404")
    assert (await _get(port, b"PUT /metrics\r\n\r\n")).startswith(b"HTTP/1.1 405")
    assert (await _get(port, b"\xff\x00\r\n\r\n")).startswith(b"HTTP/1.1 405")


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=x", "text/plain; version=1..0"]
)
async def test_a_version_that_is_none_gets_plain_text(
    nursery: trio.Nursery, accept: str
) -> None:
    """Whoever can reach the port can say anything, and the mount goes on."""
    port = await _serving(nursery)

    request = f"GET /metrics HTTP/1.1\r\nAccept: {accept}\r\n\r\n"
    answer = await _get(port, request.encode())

    assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0")


async def test_a_question_that_fails_costs_no_mount(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be told is told to the log, and the next question is answered."""
    looks = iter([ZeroDivisionError("of this test")])

    def look() -> Look:
        for error in looks:
            raise error
        return _look()

    port = await _serving(nursery, look)

    assert await _get(port, b"GET /metrics HTTP/1.1\r\n\r\n") == b""
    assert "the metrics could not be told" in caplog.text
    answer = await _get(port, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")


async def test_a_look_that_takes_long_is_not_repeated_at_once(
    nursery: trio.Nursery,
) -> None:
    """With a million pending entries a fiftieth of the time goes to that, no more."""
    now_s, taken_s, looks = 0.0, 1.0, 0

    def look() -> Look:
        nonlocal now_s, looks
        now_s, looks = now_s + taken_s, looks + 1
        return _look()

    port = await _serving(nursery, look, clock=lambda: now_s)

    async def looks_after(time_s: float) -> int:
        nonlocal now_s
        now_s += time_s
        answer = await _get(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK")
        return looks

    assert [await looks_after(each) for each in (0, 0, 49)] == [1, 1, 1]
    assert await looks_after(2) == 2
    taken_s = LOOK_FREE_S / 2
    assert [await looks_after(each) for each in (51, 0, 0)] == [3, 4, 5]


async def test_who_holds_connections_is_bounded(nursery: trio.Nursery) -> None:
    """Connections that say nothing leave the mount alone, and are few."""
    port = await _serving(nursery)
    idle = [
        await trio.open_tcp_stream("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)
    ]
    await trio.testing.wait_all_tasks_blocked()

    async with await trio.open_tcp_stream("127.0.0.1", port) as more:
        assert await more.receive_some() == b""
    for stream in idle:
        await stream.aclose()


async def test_a_port_in_use_is_one_sentence(nursery: trio.Nursery) -> None:
    """The user is told what to change."""
    port = await _serving(nursery)

    with pytest.raises(UsageError, match="choose another --metrics-port"):
        await MetricsServer("127.0.0.1", port, _look).serve()


# --- what is built on the metrics ---------------------------------------------------


def _series() -> dict[str, set[str]]:
    """Return the labels of each series that a query can name."""
    found: dict[str, set[str]] = {"up": set(), "process_cpu_seconds_total": set()}
    found["process_resident_memory_bytes"] = set()
    for name, kind, labels in _full_names(families(_look())):
        found[name] = set(labels)
        if kind == "histogram":
            del found[name]
            found[f"{name}_bucket"] = {*labels, "le"}
    return found


def _check(query: str) -> None:
    """See that a query names nothing but series, and labels that they have."""
    series = _series()
    names = re.findall(r"\b(?:mountfs|process)_\w+|\bup\b", query)
    assert names, query
    assert set(names) <= series.keys(), query
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", query):
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert used <= series[name] | {"instance", "job"}, query
    grouped = re.findall(r"by \(([^)]*)\)", query)
    used = {label.strip() for labels in grouped for label in labels.split(",")}
    known = set().union(*(series[name] for name in names))
    assert used <= known | {"instance"}, query
    assert query.count("(") == query.count(")"), query


def test_every_panel_of_the_dashboard_asks_for_what_there_is() -> None:
    """The dashboard names metrics and labels that exist, and all that matter."""
    text = (DOCS / "reference" / "grafana-dashboard.json").read_text()
    dashboard = json.loads(text)
    queries = [
        target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]
    for query in queries:
        _check(query.replace("$__rate_interval", "5m"))

    shown = set(re.findall(r"mountfs_\w+", " ".join(queries)))
    assert _series().keys() - shown == {
        "up",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "mountfs_state",
    }
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_every_alert_asks_for_what_there_is_and_says_what_to_do() -> None:
    """The sample rules are rules, each with a sentence and a cure."""
    rules = yaml.safe_load((DOCS / "reference" / "alerts.yaml").read_text())
    (group,) = rules["groups"]

    assert len(group["rules"]) >= 8
    for rule in group["rules"]:
        _check(rule["expr"])
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}

"""What the doctor finds wrong, each thing as one finding with its cure."""

import json
import os
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import trio

from mountfs import checks
from mountfs.backends import gcs_diagnosis, memory
from mountfs.backends import s3_diagnosis as s3_diagnosis_module
from mountfs.backends.memory import MemoryStore
from mountfs.backends.s3_diagnosis import S3Diagnosis, lifecycle
from mountfs.backends.s3_keys import KeySpace
from mountfs.backends.s3_options import parse_options
from mountfs.configuration import config
from mountfs.configuration.settings import Setting
from mountfs.doctor import host, run
from mountfs.doctor.deeds import Trial
from mountfs.doctor.reach import reach
from mountfs.errors import UsageError
from mountfs.storage.body import Body
from mountfs.storage.diagnosis import Address, Deed, Finding, State
from mountfs.storage.errors import PermissionDenied
from mountfs.storage.types import Object, Page
from tests.fakes.dropbox_fixtures import make_certificate
from tests.fakes.scripted_server import ScriptedServer

NEEDS = {deed: f"permission-{deed.name.lower()}" for deed in Deed}


def settings(
    tmp_path: Path, url: str = "memory://", **given: str
) -> config.MountConfig:
    """Return the configuration of a mount with directories of its own."""
    layer = {
        "cache_dir": Setting(str(tmp_path / "cache"), "test"),
        "state_dir": Setting(str(tmp_path / "state"), "test"),
        **{name: Setting(text, "test") for name, text in given.items()},
    }
    return config.mount_config(url, "/", layer, config_file=None, environ={})


def one(findings: list[Finding], what: str) -> Finding:
    """Return the only finding about something."""
    (found,) = [each for each in findings if each.what == what]
    return found


class Refusing(MemoryStore):
    """A store whose credentials may not do some things."""

    def __init__(self, *refused: str) -> None:
        super().__init__()
        self._refused = refused

    def __getattribute__(self, name: str) -> object:
        if not name.startswith("_") and name in self._refused:

            async def refuse(*_: object, **__: object) -> None:
                raise PermissionDenied("no", code="AccessDenied")

            return refuse
        return super().__getattribute__(name)


# --- what is allowed ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "deed"),
    [
        ("list", Deed.LIST),
        ("stat", Deed.STAT),
        ("read", Deed.READ),
        ("write", Deed.WRITE),
        ("copy", Deed.COPY),
        ("delete", Deed.DELETE),
        ("create_multipart", Deed.MULTIPART),
    ],
)
async def test_a_missing_permission_is_named(call: str, deed: Deed) -> None:
    """What is refused fails, and the cure says what to allow."""
    trial = Trial(Refusing(call), NEEDS, read_only=False)

    found = await trial.run()

    failed = [each for each in found if each.state is State.FAIL]
    assert [each.what for each in failed] == [deed.value]
    assert f"permission-{deed.name.lower()}" in failed[0].cure


async def test_everything_is_tried_and_removed_again() -> None:
    """Each deed has its finding, and the store is as it was."""
    store = MemoryStore()
    trial = Trial(store, NEEDS, read_only=False)

    found = await trial.run()
    conditions = await trial.conditions()

    assert [each.what for each in found] == [deed.value for deed in Deed]
    assert {each.state for each in (*found, conditions)} == {State.OK}
    assert await trial.clean_up() == []
    assert (await store.list("")).objects == ()
    assert await store.list_uploads() == ()


async def test_read_only_writes_nothing() -> None:
    """Only what reads is tried."""
    store = Refusing("write", "create_multipart", "copy", "delete")
    trial = Trial(store, NEEDS, read_only=True)

    found = await trial.run()

    assert {each.what for each in found} == {"list", "head", "get"}
    assert not [each for each in found if each.state is State.FAIL]


async def test_what_cannot_be_removed_is_told() -> None:
    """The user must know what lies in the bucket."""
    trial = Trial(Refusing("delete"), NEEDS, read_only=False)
    await trial.run()

    (found,) = await trial.clean_up()
    assert found.state is State.WARN
    assert trial.prefix in found.text


async def test_ignored_conditions_are_worth_knowing() -> None:
    """A store that takes a condition and ignores it gets a warning."""

    class Careless(MemoryStore):
        async def write(self, key: str, body: Body | None, **more: Any) -> Object:
            more["condition"] = None
            return await super().write(key, body, **more)

    trial = Trial(Careless(), NEEDS, read_only=False)
    await trial.run()

    found = await trial.conditions()
    assert found.state is State.WARN
    assert "ignored: write" in found.text


# --- the server ---------------------------------------------------------------------


def test_a_dead_server_is_one_line() -> None:
    """Nobody listens: one failure, and nothing else is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    found = reach(Address(f"http://127.0.0.1:{port}"))

    assert not found.is_reached
    assert [each.state for each in found.findings] == [State.FAIL]
    assert "no connection to 127.0.0.1" in found.findings[0].text


@pytest.mark.parametrize(
    ("off_s", "state"),
    [(0, State.OK), (20, State.OK), (120, State.WARN), (1800, State.FAIL)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_wrong_clock_is_seen(off_s: int, state: State, sign: int) -> None:
    """By the Date of any answer."""
    date = formatdate(time.time() + sign * off_s, usegmt=True)
    answer = f"HTTP/1.1 403 Forbidden\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n"
    with ScriptedServer([answer.encode()]) as server:
        found = reach(Address(server.url))

    assert one(found.findings, "clock").state is state


def test_a_self_signed_certificate_is_refused(tmp_path: Path) -> None:
    """One line says so and how to trust it; trusted by its file, it is accepted."""
    certificate = make_certificate(tmp_path, days=90)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    with ScriptedServer([answer], tls=context) as server:
        refused = reach(Address(server.url))
        trusted = reach(Address(server.url, str(certificate)))
        unread = reach(Address(server.url, str(tmp_path / "missing.pem")))

    assert not refused.is_reached
    assert one(refused.findings, "TLS").state is State.FAIL
    assert "not trusted" in refused.findings[0].text
    assert trusted.is_reached
    assert one(trusted.findings, "TLS").state is State.OK
    assert "missing.pem cannot be used: No such file" in unread.findings[0].text


def test_a_certificate_that_ends_soon_is_worth_knowing(tmp_path: Path) -> None:
    """Two weeks before nothing works."""
    certificate = make_certificate(tmp_path, days=3)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ScriptedServer([b"HTTP/1.1 200 OK\r\n\r\n"], tls=context) as server:
        found = reach(Address(server.url, str(certificate)))

    assert one(found.findings, "TLS").state is State.WARN


# --- the bucket and the credentials ---------------------------------------------------


RULE = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}}
ABORT = {**RULE, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([ABORT], []),
        ([], ["ends uploads"]),
        ([{**ABORT, "Status": "Disabled"}], ["ends uploads"]),
        ([ABORT, {**RULE, "Expiration": {"Days": 1}}], ["deletes files"]),
        ([ABORT, {**RULE, "Expiration": {"ExpiredObjectDeleteMarker": True}}], []),
        ([ABORT, {**RULE, "Prefix": "x/", "Expiration": {"Days": 1}}], []),
        ([ABORT, {**RULE, "Transitions": [{"StorageClass": "GLACIER"}]}], ["no read"]),
    ],
)
def test_rules_of_the_life_cycle(
    rules: list[dict[str, object]], words: list[str]
) -> None:
    """Only rules that touch the prefix, and cost files or money, are told."""
    found = [each for each in lifecycle(rules, "a/") if each.state is not State.OK]

    assert len(found) == len(words)
    for each, word in zip(found, words, strict=True):
        assert word in each.text
        assert each.cure


def s3_diagnosis(**options: object) -> S3Diagnosis:
    """Return what tells of a bucket."""
    return S3Diagnosis(KeySpace("b", ""), parse_options(options))


@pytest.mark.usefixtures("s3_credentials")
def test_the_source_of_credentials_is_told_and_never_they() -> None:
    """The environment is named; neither key nor secret is."""
    found = s3_diagnosis().credentials()

    assert (found.state, found.text) == (
        State.OK,
        "from the environment (AWS_ACCESS_KEY_ID)",
    )


def test_missing_credentials_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cure; a public bucket needs none."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)

    assert s3_diagnosis().credentials().state is State.FAIL
    assert s3_diagnosis(profile="nobody").credentials().state is State.FAIL
    assert s3_diagnosis(no_sign_request=True).credentials().state is State.OK


# --- this host ------------------------------------------------------------------------


def test_an_open_directory_is_worth_knowing(tmp_path: Path) -> None:
    """What lies in the cache is for its owner alone."""
    made = settings(tmp_path)
    made.cache_dir.mkdir(mode=0o755)
    made.state_dir.mkdir(mode=0o700)

    found = host.host_findings(made)

    assert one(found, "cache directory").state is State.WARN
    assert f"chmod 700 {made.cache_dir}" in one(found, "cache directory").cure
    assert one(found, "state directory").state is State.OK


def test_nothing_is_made_on_this_host(tmp_path: Path) -> None:
    """Directories that are missing are not created, and no file stays."""
    host.host_findings(settings(tmp_path))

    assert list(tmp_path.iterdir()) == []


def test_a_host_without_fuse_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the cure for a container, too."""
    monkeypatch.setattr(checks, "FUSE_DEVICE", tmp_path / "fuse")

    found = one(host.host_findings(settings(tmp_path)), str(tmp_path / "fuse"))
    assert found.state is State.FAIL
    assert "--device /dev/fuse" in found.cure


def test_little_memory_is_worth_knowing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From what the kernel says is available."""
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:  1000000 kB\nMemAvailable:  100000 kB\n")
    monkeypatch.setattr(host, "MEMORY_INFO", told)

    assert one(host.host_findings(settings(tmp_path)), "memory").state is State.WARN


# --- the whole ------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure little."""
    for name in ("ASKING_S", "RATE_S", "MOVING_S"):
        monkeypatch.setattr(f"mountfs.doctor.pace.{name}", 0.05)


@pytest.mark.usefixtures("quick")
def test_a_whole_run_for_people_and_for_programs(tmp_path: Path) -> None:
    """Both tell the same; the store is left as it was."""
    name = tmp_path.name
    made = settings(tmp_path, f"memory://{name}")
    people, programs = StringIO(), StringIO()
    try:
        assert run.examine(made, as_json=False, out=people) == 0
        assert run.examine(made, as_json=True, out=programs) == 0
    finally:
        memory.forget_store(name)

    told = json.loads(programs.getvalue())
    assert told["ok"] is True
    for each in told["findings"]:
        assert each["what"] in people.getvalue()
    assert {"put", "conditional writes", "latency", "throughput up"} <= {
        each["what"] for each in told["findings"]
    }


@pytest.mark.usefixtures("quick")
def test_nothing_is_left_in_a_directory(tmp_path: Path) -> None:
    """No file, and no directory for what was tried."""
    (tmp_path / "served").mkdir()
    made = settings(tmp_path, f"file://{tmp_path}/served")

    assert run.examine(made, as_json=False, out=StringIO()) == 0
    assert list((tmp_path / "served").iterdir()) == []


def test_a_directory_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """With what to do about it, and no traceback."""
    made, out = settings(tmp_path, f"file://{tmp_path}/absent"), StringIO()

    assert run.examine(made, as_json=False, out=out) == 1
    assert "absent is not a directory)\n" in out.getvalue()
    assert "-> create it" in out.getvalue()


@pytest.mark.usefixtures("s3_credentials")
def test_a_dead_store_costs_no_minutes(tmp_path: Path) -> None:
    """It is known at the first connection, and the exit code is 1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    made = settings(tmp_path, "s3://bucket", endpoint_url=f"http://127.0.0.1:{port}")
    out = StringIO()

    assert run.examine(made, as_json=False, out=out) == 1
    assert out.getvalue().count("fail") == 1


def test_a_silent_store_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes everything and says nothing ends the run, too."""
    monkeypatch.setattr(run, "WHOLE_S", 0.3)
    monkeypatch.setattr(run, "open_base", lambda _: _Silent())
    out = StringIO()

    assert run.examine(settings(tmp_path), as_json=False, out=out) == 1
    assert "nothing was answered" in out.getvalue()


class _Silent(MemoryStore):
    async def list(self, *_: object, **__: object) -> Page:
        await trio.sleep_forever()


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """What a server says is shown, and not obeyed."""
    report = run.Report(service=[Finding("x", State.WARN, "\033[2Jtext", "\a")])

    told = run._as_text(settings(tmp_path), report, StringIO())
    assert "\033" not in told
    assert "\a" not in told


# --- other services -------------------------------------------------------------------


def test_when_credentials_end_is_told() -> None:
    """If somebody knows; those that are about to end are worth a look."""
    now = datetime.now(UTC)

    soon = s3_diagnosis_module._with_expiry("c", "x", now + timedelta(minutes=1))
    later = s3_diagnosis_module._with_expiry("c", "x", now + timedelta(hours=5))
    never = s3_diagnosis_module._with_expiry("c", "x", None)
    assert [each.state for each in (soon, later, never)] == [
        State.WARN,
        State.OK,
        State.OK,
    ]
    assert f"{now + timedelta(hours=5):%Y-%m-%d %H:%M}" in later.text


def test_roles_and_scopes_of_other_services(tmp_path: Path) -> None:
    """Reading needs less than writing, and each option what it is for."""
    events = "projects/p/subscriptions/s"
    google = settings(tmp_path, "gs://bucket/pre", events=events)
    reading = settings(tmp_path, "gs://bucket", read_only="true")
    dropbox = settings(tmp_path, "dropbox:///")

    assert "roles/storage.objectUser" in run.policy(google)
    assert "objects/pre/" in run.policy(google)
    assert events in run.policy(google)
    assert "roles/storage.objectViewer" in run.policy(reading)
    assert "files.content.write" in run.policy(dropbox)
    scopes = run.policy(settings(tmp_path, "dropbox:///", read_only="true"))
    assert "write" not in scopes
    with pytest.raises(UsageError, match="has no policy"):
        run.policy(settings(tmp_path))


def test_settings_of_a_bucket_of_google() -> None:
    """What is kept, and what removes files, is worth knowing."""
    assert gcs_diagnosis._settings({}) == []

    found = gcs_diagnosis._settings(
        {
            "versioning": {"enabled": True},
            "softDeletePolicy": {"retentionDurationSeconds": "604800"},
            "retentionPolicy": {"retentionPeriod": "1"},
            "lifecycle": {"rule": [{"action": {"type": "Delete"}}]},
        }
    )
    assert [each.what for each in found] == [
        "versioning",
        "soft delete",
        "retention",
        "lifecycle",
    ]
    assert all(each.state is State.WARN and each.cure for each in found)

"""The Dropbox store: what it sends, and what it must never do. Against the fake."""

import fcntl
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing
from dropbox import Dropbox

from mountfs.backends import open_events, open_store
from mountfs.backends.dropbox_client import DropboxClient
from mountfs.backends.dropbox_options import parse_options
from mountfs.backends.dropbox_pace import (
    Bucket,
    EarlyError,
    Pace,
    runtime_directory,
)
from mountfs.storage import pace
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import (
    AlreadyExists,
    BodyTooShort,
    Corrupt,
    DirectoryNotEmpty,
    InvalidRequest,
    NameTaken,
    NotFound,
    QuotaExceeded,
    ServiceFailed,
    Unreachable,
    Unsupported,
    VersionChanged,
    WrongKind,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.retry import RetryStorager
from mountfs.storage.types import ABSENT, Features, ListMode, Metadata, ObjectKind
from mountfs.storage.virtual import VirtualStorager
from tests.fakes.dropbox_account import TEAM_SPACE
from tests.fakes.dropbox_fixtures import options_of
from tests.fakes.dropbox_server import DropboxServer, Fault
from tests.fakes.dropbox_tree import Commit

MIB = 1 << 20
TEMPLATES = {
    "file_properties/templates/list_for_user",
    "file_properties/templates/get_for_user",
    "file_properties/templates/add_for_user",
}


@pytest.fixture
async def store(
    dropbox_server: DropboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Storager]:
    """A folder of the fake, with one file in it, and all else known."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    opened = open_store("dropbox:///top", options_of(dropbox_server))
    await opened.write("file", BytesBody(b"old"), metadata=Metadata(commit_id="c0"))
    dropbox_server.routes.clear()
    yield opened
    await opened.close()


@pytest.mark.parametrize("size", [300_000, 5 * MIB])
async def test_bodies_go_piece_by_piece_where_a_limit_wants(
    store: Storager, size: int
) -> None:
    """Both ways, and nothing is changed by it."""
    pays: list[int] = []

    class Recording:
        piece = 50_000

        def pay(self, size: int) -> None:
            pays.append(size)

        def note_request(self) -> None:
            pass

    content = bytes(range(250)) * (size // 250)
    token = pace.keep(Recording())
    try:
        await store.write("new", BytesBody(content))
        came = len(pays)
        found = await store.read("new")
    finally:
        pace.leave(token)

    assert found.data == content
    assert max(pays) <= 50_000
    assert sum(pays[:came]) >= len(content)
    assert sum(pays[came:]) >= len(content)


def sent(server: DropboxServer) -> list[str]:
    """Return the requests since this was asked last, without their folder."""
    found = [each.removeprefix("files/") for each in server.routes]
    server.routes.clear()
    return found


def foreign(server: DropboxServer, path: str, data: bytes) -> None:
    """Let another client write a file."""
    tree = server.account.tree
    with server.account.lock, tree.changed:
        tree.write(Commit(path, mode="overwrite"), data)


async def test_what_each_operation_sends(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """The requests of docs/reference/backends.md, one by one."""
    made = await store.stat("file")
    assert sent(dropbox_server) == ["get_metadata"]
    made = await store.write("file", BytesBody(b"new"), condition=made.version)
    assert sent(dropbox_server) == ["upload"]
    new = await store.write("new", None, condition=ABSENT)
    assert sent(dropbox_server) == ["upload"]
    assert (await store.read("file")).data == b"new"
    assert sent(dropbox_server) == ["download"]
    await store.list("")
    assert sent(dropbox_server) == ["list_folder"]
    await store.set_metadata(made, Metadata(user={"a": "b"}))
    assert sent(dropbox_server) == ["file_properties/properties/overwrite"]
    await store.move("file", "moved")
    assert sent(dropbox_server) == ["get_metadata", "move_v2"]
    await store.copy("moved", "copy")
    assert sent(dropbox_server) == [
        "get_metadata",
        "copy_v2",
        "file_properties/properties/overwrite",
    ]
    await store.delete("new", condition=new.version)
    assert sent(dropbox_server) == ["delete_v2"]
    await store.delete("copy")
    assert sent(dropbox_server) == ["delete_v2"]
    foreign(dropbox_server, "/top/theirs", b"theirs")
    await store.delete("theirs")
    assert sent(dropbox_server) == ["get_metadata", "delete_v2"]
    await store.make_dir("dir/", metadata=Metadata(user={"a": "b"}))
    assert sent(dropbox_server) == [
        "create_folder_v2",
        "file_properties/properties/overwrite",
    ]
    await store.delete("dir/")
    assert sent(dropbox_server) == [
        "get_metadata",
        "list_folder",
        "delete_v2",
    ]


async def test_a_folder_moves_in_one_request_whatever_is_in_it(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """With the attributes of everything below it."""
    for number in range(20):
        metadata = Metadata(user={"n": str(number)})
        await store.write(f"dir/sub/{number}", None, metadata=metadata)
    sent(dropbox_server)

    await store.move("dir/", "other/place/")

    assert sent(dropbox_server) == ["get_metadata", "move_v2"]
    found = (await store.stat("other/place/sub/7")).metadata
    assert found is not None
    assert found.user == {"n": "7"}


async def test_many_are_deleted_in_few_requests(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """One listing for what is not known of a folder, one batch for 1 000 files.

    What was known and is newer by now is deleted apart, and folders afterwards.
    """
    keys = [f"dir/{number}" for number in range(12)]
    for number, key in enumerate(keys):
        if number % 2:  # of half of them nothing is known
            foreign(dropbox_server, f"/top/{key}", b"")
        else:
            await store.write(key, None, condition=ABSENT)
            foreign(dropbox_server, f"/top/{keys[0]}", b"newer")
    sent(dropbox_server)

    failed = await store.delete_many([*keys, "dir/", "absent"])

    assert failed == {}
    routes = sent(dropbox_server)
    assert routes.count("list_folder") == 2
    assert routes.count("delete_batch") == 1
    assert routes.count("delete_v2") == 2
    with pytest.raises(NotFound):
        await store.stat("dir/", kind=ObjectKind.DIRECTORY)


async def test_a_large_write_goes_in_pieces(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """8 MiB each; what is there stays until all have come."""
    data = bytes(range(256)) * (4096 * 17)  # 17 MiB
    old = await store.stat("file")
    sent(dropbox_server)

    await store.write("file", BytesBody(data), condition=old.version)

    assert sorted(sent(dropbox_server)) == [
        "upload_session/append_v2",
        "upload_session/append_v2",
        "upload_session/append_v2",
        "upload_session/finish",
        "upload_session/start",
    ]
    assert (await store.read("file")).data == data
    with pytest.raises(VersionChanged):
        await store.write("file", BytesBody(data), condition=old.version)


async def test_a_call_that_is_given_up_cuts_no_other(
    dropbox_server: DropboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another may have the connection that it has given back."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    client = DropboxClient(parse_options(options_of(dropbox_server)))
    has_asked, may_end, stays = threading.Event(), threading.Event(), trio.CancelScope()
    answers: list[str] = []

    def ask_and_stay(api: Dropbox) -> None:
        api.check_user("first")
        has_asked.set()
        may_end.wait(10)

    async def be_given_up() -> None:
        with stays:
            await client.call(ask_and_stay)

    async def ask() -> None:
        told = await client.call(lambda api: api.check_user("other"))
        answers.append(told.result)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_given_up)
        await trio.to_thread.run_sync(has_asked.wait)
        dropbox_server.latency_s = 0.3
        nursery.start_soon(ask)
        while dropbox_server.counts["check/user"] < 2:  # noqa: ASYNC110 - a thread's
            await trio.sleep(0.01)
        stays.cancel()
    may_end.set()
    await client.close()
    assert answers == ["other"]


async def test_a_large_write_that_fails_changes_nothing(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """A body that is too short, and a service that fails in the middle."""
    large = BytesBody(b"x" * (9 * MIB))
    with pytest.raises(BodyTooShort):
        await store.write("file", large, size=20 * MIB)
    dropbox_server.add_fault("files/upload_session/append_v2", Fault(503, times=9))
    with pytest.raises(ServiceFailed):
        await store.write("file", large)

    assert (await store.read("file")).data == b"old"


async def test_no_piece_is_sent_again_for_another(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """Neither for one that failed, or was lost, nor because Dropbox is busy."""
    data = b"x" * (17 * MIB)
    dropbox_server.add_fault("files/upload_session/append_v2", Fault(503))
    dropbox_server.lose_answer("files/upload_session/append_v2")
    dropbox_server.throttle("files/upload_session/finish")
    old = await store.stat("file")

    await store.write("file", BytesBody(data), condition=old.version)

    routes = Counter(sent(dropbox_server))
    assert routes["upload_session/append_v2"] == 3 + 2
    assert routes["upload_session/finish"] == 2
    assert (await store.read("file")).data == data


async def test_bytes_that_were_damaged_are_refused(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """On their way here, by the content hash of the whole."""
    dropbox_server.damages_downloads = True

    with pytest.raises(Corrupt):
        await store.read("file")


async def test_a_delete_of_a_file_takes_no_folder(store: Storager) -> None:
    """Dropbox would delete it with all that is in it."""
    await store.write("dir/file", None)

    for key in ("dir",):
        with pytest.raises(WrongKind):
            await store.delete(key)
    assert isinstance((await store.delete_many(["dir", "a", "b"]))["dir"], WrongKind)
    with pytest.raises(DirectoryNotEmpty):
        await store.delete("dir/")
    assert (await store.stat("dir/file")).size == 0


async def test_no_name_of_another_case_is_touched(store: Storager) -> None:
    """Not by looking, deleting, moving, nor by an append that was never committed."""
    virtual = VirtualStorager(store, Features.all())
    for key in ("FILE", "File"):
        with pytest.raises(NotFound):
            await store.stat(key)
        with pytest.raises(NotFound):
            await store.read(key)
        await store.delete(key)
        append = await virtual.create_append(key)
        await virtual.write_append(append, BytesBody(b"tail"))
        await virtual.delete(key)
        with pytest.raises(NameTaken):
            await virtual.commit_append(append)
    await store.write("other", BytesBody(b"other"))
    with pytest.raises(NameTaken):
        await store.move("other", "FILE")
    with pytest.raises(NameTaken):
        await store.copy("other", "FILE")
    await store.make_dir("dir/")
    with pytest.raises(NameTaken):
        await store.make_dir("DIR/")

    assert (await store.read("file")).data == b"old"
    assert (await store.read("other")).data == b"other"


async def test_an_append_that_is_not_committed_is_no_file(store: Storager) -> None:
    """Deleting its key deletes what has that key, and nothing comes back."""
    virtual = VirtualStorager(store, Features.all())
    append = await virtual.create_append("log")
    await virtual.write_append(append, BytesBody(b"tail"))
    await virtual.delete("log")
    with pytest.raises(NotFound):
        await virtual.stat("log")
    base = await virtual.stat("file")
    append = await virtual.create_append("file", base=base)
    append = await virtual.write_append(append, BytesBody(b", new"))
    assert (await store.read("file")).data == b"old"
    await virtual.delete("file")

    with pytest.raises((NotFound, VersionChanged)):
        await virtual.commit_append(append)
    with pytest.raises(NotFound):
        await virtual.stat("file")


async def test_only_the_case_of_a_name_changes(store: Storager) -> None:
    """Dropbox does not do it by itself: in two steps, for files and folders."""
    await store.write("dir/below", None)

    await store.move("file", "FILE")
    await store.move("dir/", "Dir/")

    assert (await store.read("FILE")).data == b"old"
    found = [each.key for each in (await store.list("", mode=ListMode.PREFIX)).objects]
    assert found == ["Dir/", "Dir/below", "FILE"]


async def test_a_move_that_fails_restores_what_was_in_its_way(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """Dropbox moves onto nothing, so that the target is deleted first."""
    await store.write("new", BytesBody(b"new"))
    dropbox_server.add_fault("files/move_v2", Fault(503, after=1))

    with pytest.raises(ServiceFailed):
        await store.move("new", "file")

    assert (await store.read("file")).data == b"old"
    assert (await store.read("new")).data == b"new"
    await store.move("new", "file")
    assert (await store.read("file")).data == b"new"


async def test_a_folder_replaces_only_an_empty_one(store: Storager) -> None:
    """A full one, and a file, stay."""
    await store.write("a/x", BytesBody(b"x"))
    await store.write("b/y", BytesBody(b"y"))

    with pytest.raises(DirectoryNotEmpty):
        await store.move("a/", "b/")
    with pytest.raises(WrongKind):
        await store.move("a/", "file/")
    with pytest.raises(WrongKind):
        await store.move("file", "a")
    await store.delete("b/y")
    await store.move("a/", "b/")

    assert (await store.read("b/x")).data == b"x"


async def test_metadata_of_bytes_that_are_gone_count_no_more(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """Another program replaces the bytes and leaves our properties."""
    await store.write("file", BytesBody(b"ours"), metadata=Metadata(user={"a": "b"}))

    foreign(dropbox_server, "/top/file", b"theirs")

    found = (await store.stat("file")).metadata
    assert found is not None
    assert (found.user, found.commit_id) == ({}, None)


async def test_equal_bytes_bring_their_new_metadata(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """Dropbox writes nothing then, properties included: they are put apart."""
    old = await store.stat("file")
    new = Metadata(user={"a": "b"}, commit_id="c1")
    sent(dropbox_server)

    await store.write("file", BytesBody(b"old"), metadata=new, condition=old.version)

    assert sent(dropbox_server) == ["upload", "file_properties/properties/overwrite"]
    found = (await store.stat("file")).metadata
    assert found is not None
    assert (found.user, found.commit_id) == (new.user, "c1")


@pytest.mark.parametrize("kind", ["upload", "session"])
async def test_a_lost_answer_is_no_conflict_with_oneself(
    store: Storager, dropbox_server: DropboxServer, kind: str
) -> None:
    """The commit id in the properties tells whose the file is."""
    data = b"x" * (9 * MIB if kind == "session" else 9)
    route = "upload" if kind == "upload" else "upload_session/finish"
    retried = RetryStorager(store, RetryPolicy())
    dropbox_server.lose_answer(f"files/{route}")

    made = await retried.write("new", BytesBody(data), condition=ABSENT)

    assert made.size == len(data)
    assert dropbox_server.account.tree.entries["/top/new"].rev == (
        made.version.content if made.version else ""
    )


async def test_nothing_is_sent_before_the_time_that_dropbox_names(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """A 429 holds back every request of the store, and fails none of them."""
    dropbox_server.throttle(retry_after_s=30)

    for request in (lambda: store.stat("file"), lambda: store.list("")):
        with trio.move_on_after(0.1) as scope:
            await request()
        assert scope.cancelled_caught

    assert sent(dropbox_server) == ["get_metadata"]


async def test_a_storm_of_refusals_takes_no_time_of_a_deadline(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """However many come; writes that wait for each other hold back no reads."""
    retried = RetryStorager(store, RetryPolicy(attempts=3))
    dropbox_server.throttle("files/get_metadata", times=12, retry_after_s=0)
    assert (await retried.stat("file")).size == 3
    assert dropbox_server.counts["files/get_metadata"] == 13

    dropbox_server.throttle(
        "files/upload", times=2, retry_after_s=0, reason="too_many_write_operations"
    )

    async def write() -> None:
        await retried.write("new", BytesBody(b"new"), condition=ABSENT)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        assert (await retried.read("file")).data == b"old"
        assert dropbox_server.counts["files/upload"] < 3
    assert (await retried.read("new")).data == b"new"


def test_a_bucket_slows_down_and_recovers() -> None:
    """Half the rate after a refusal, a tenth more each second, and then no limit."""
    bucket = Bucket()
    for number in range(80):
        assert bucket.take(10 + number / 80, is_urgent=False) == 0
    for _ in range(3):  # on their way together
        bucket.slow_down(11, 7)
    assert bucket.rate == 40
    assert bucket.take(11, is_urgent=True) == 7

    at_s, left = 18.0, 0
    while at_s < 19:
        wait_s = bucket.take(at_s, is_urgent=False)
        left += wait_s == 0
        at_s += wait_s + 1e-6
    assert 40 <= left <= 44
    assert bucket.take(18.9999, is_urgent=False) > 0
    assert bucket.take(18.9999, is_urgent=True) == 0  # a program waits for it
    bucket.slow_down(30, 1)
    assert bucket.rate > 50
    for _ in range(200):
        assert bucket.take(200, is_urgent=False) == 0


def test_a_clock_that_was_set_back_stops_nothing() -> None:
    """What lies too far ahead counts for nothing."""
    bucket = Bucket()
    bucket.slow_down(1e9, 60)
    assert bucket.take(1e6, is_urgent=False) == 0
    bucket.slow_down(1e6, 5)
    assert bucket.take(1e6, is_urgent=False) == 5


def test_a_bucket_is_shared_by_all_of_an_account(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By a file of the user alone; other accounts are not held back."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    one, same, other = Pace("a"), Pace("a"), Pace("b")

    one.slow_down(60)

    with pytest.raises(EarlyError) as caught:
        same.take(is_urgent=True)
    assert 55 < caught.value.left_s <= 60
    other.take(is_urgent=False)
    directory = tmp_path / "mountfs"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in directory.iterdir()} == {0o600}
    (file,) = [each for each in directory.iterdir() if each.name == other.name]
    with file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        other.take(is_urgent=False)  # who holds it for long is not waited for
    for each in (one, same, other):
        each.close()
    directory.chmod(0o777)
    assert runtime_directory() is None  # others could write there
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "absent"))
    assert runtime_directory() is None
    alone = Pace("a")
    alone.take(is_urgent=True)
    alone.slow_down(60)
    with pytest.raises(EarlyError):
        alone.take(is_urgent=True)


async def test_errors_are_told_apart(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """A full account, a server that is gone, a namespace that is none."""
    dropbox_server.account.tree.quota = 5
    with pytest.raises(QuotaExceeded):
        await store.write("large", BytesBody(b"123456"))
    dropbox_server.add_fault("files/get_metadata", Fault())
    with pytest.raises(Unreachable) as caught:
        await store.stat("file")
    assert caught.value.is_ambiguous
    options = {**options_of(dropbox_server), "path_root": "42"}
    team = open_store("dropbox:///top", options)
    with pytest.raises(InvalidRequest, match="path_root"):
        await team.stat("file")
    dropbox_server.namespaces = frozenset({"42"})
    assert (await team.stat("file")).size == 3
    await team.close()


async def test_the_space_of_a_team_is_found_by_its_account(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """Its id is asked for once, and named by every request."""
    options = {**options_of(dropbox_server), "path_root": "team"}
    team = open_store("dropbox:///top", options)
    with pytest.raises(InvalidRequest, match="path_root"):
        await team.stat("file")  # what the account tells is no namespace here
    dropbox_server.namespaces = frozenset({TEAM_SPACE})
    assert (await team.stat("file")).size == 3
    assert (await team.read("file")).data == b"old"
    assert dropbox_server.counts["users/get_current_account"] == 1
    await team.close()


async def test_a_store_without_properties_keeps_files(
    dropbox_server: DropboxServer,
) -> None:
    """An app that may have no template is told so, or does without."""
    dropbox_server.account.may_have_templates = False
    options = options_of(dropbox_server)
    store = open_store("dropbox:///", options)
    with pytest.raises(Unsupported, match="properties=off"):
        await store.write("file", None, metadata=Metadata(commit_id="c"))
    await store.close()
    plain = open_store("dropbox:///", {**options, "properties": "off"})

    assert not plain.capabilities.metadata
    await plain.write("file", BytesBody(b"bytes"), metadata=Metadata(commit_id="c"))
    assert (await plain.read("file")).data == b"bytes"
    assert not TEMPLATES & set(sent(dropbox_server)[-2:])
    await plain.close()


async def test_listings_of_more_than_a_page_of_dropbox(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """All cursors are followed before the first page; the rest waits here."""
    tree = dropbox_server.account.tree
    with dropbox_server.account.lock, tree.changed:
        for number in range(2100):
            tree.write(Commit(f"/top/many/{number:04}"), b"")
    sent(dropbox_server)

    first = await store.list("many/", limit=2000)
    second = await store.list("many/", token=first.token)

    assert sent(dropbox_server) == ["list_folder", "list_folder/continue"]
    keys = [each.key for each in (*first.objects, *second.objects)]
    assert keys == [f"many/{number:04}" for number in range(2100)]


async def test_small_files_at_once_are_finished_together(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """All but the first go into sessions; a conflict is told to its own alone."""
    refused: list[str] = []

    async def write(key: str) -> None:
        try:
            await store.write(key, BytesBody(key.encode()), condition=ABSENT)
        except AlreadyExists:
            refused.append(key)

    dropbox_server.latency_s = 0.01
    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(write, f"new-{number}")
        nursery.start_soon(write, "file")

    routes = Counter(sent(dropbox_server))
    assert routes["upload"] == 1
    assert routes["upload_session/start"] == 12
    assert 1 <= routes["upload_session/finish_batch_v2"] < 12
    assert refused == ["file"]
    for number in range(12):
        assert (await store.read(f"new-{number}")).data == b"new-%d" % number
    assert (await store.read("file")).data == b"old"


async def test_folders_at_once_are_made_together(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """All but the first; one that is there stays, and a file in the way is told."""
    refused: list[str] = []
    foreign(dropbox_server, "/top/there/file", b"theirs")

    async def make(key: str) -> None:
        try:
            await store.make_dir(key)
        except WrongKind:
            refused.append(key)

    dropbox_server.latency_s = 0.01
    async with trio.open_nursery() as nursery:
        for number in range(9):
            nursery.start_soon(make, f"new-{number}/")
        for key in ("there/", "file/", "new-8/"):
            nursery.start_soon(make, key)

    routes = Counter(sent(dropbox_server))
    assert routes["create_folder_v2"] == 1
    assert 1 <= routes["create_folder_batch"] <= 3
    assert refused == ["file/"]
    tree = dropbox_server.account.tree
    assert tree.entries["/top/there/file"].data == b"theirs"
    assert all(tree.entries[f"/top/new-{number}"].is_folder for number in range(9))


async def test_a_batch_that_is_lost_or_given_up_loses_nothing(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """Whoever was in it looks whether it was done, by the commit id."""
    retried = RetryStorager(store, RetryPolicy())
    dropbox_server.lose_answer("files/upload_session/finish_batch_v2")
    dropbox_server.latency_s = 0.01
    scopes = {number: trio.CancelScope() for number in range(10)}

    async def write(number: int) -> None:
        with scopes[number]:
            await retried.write(f"{number}", BytesBody(b"x"), condition=ABSENT)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(write, number)
        await trio.sleep(0.03)
        scopes[1].cancel()
        scopes[2].cancel()

    assert {each.key for each in (await store.list("")).objects} >= {
        "0",
        *map(str, range(3, 10)),
    }


async def test_a_conditional_copy_replaces_only_what_it_names(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """What is in the way is deleted by its revision, and restored if the copy fails."""
    await store.write("new", BytesBody(b"new"))
    old = await store.stat("file")
    with pytest.raises(AlreadyExists):
        await store.copy("new", "file", condition=ABSENT)
    dropbox_server.add_fault("files/copy_v2", Fault(503))
    with pytest.raises(ServiceFailed):
        await store.copy("new", "file", condition=old.version)
    assert (await store.read("file")).data == b"old"
    restored = await store.stat("file")
    with pytest.raises(VersionChanged):
        await store.copy("new", "file", condition=old.version)

    await store.copy("new", "file", condition=restored.version)

    assert (await store.read("file")).data == b"new"


async def test_events_tell_what_changed_and_that_all_may_have(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """Each change with what is there now; after a lost cursor, anything."""
    events = open_events("dropbox:///top", options_of(dropbox_server))
    assert events is not None
    assert await events.changes() == ()
    made = await store.write("dir/new", BytesBody(b"new"))
    await store.delete("file")

    told = await events.changes()

    assert told is not None
    assert {each.key: each.is_gone for each in told} == {
        "dir/": False,
        "dir/new": False,
        "file": True,
    }
    (new,) = [each.object for each in told if each.key == "dir/new"]
    assert new is not None
    assert new.version == made.version
    dropbox_server.account.cursors.forget()
    assert await events.changes() == ()
    assert await events.changes() is None
    await events.close()


async def test_links_that_desktop_clients_found_are_read(
    store: Storager, dropbox_server: DropboxServer
) -> None:
    """They are listed, looked up, moved, and replaced by what is ours."""
    foreign(dropbox_server, "/top/link", b"")
    dropbox_server.account.tree.entries["/top/link"].target = "../else/where"
    virtual = VirtualStorager(store, Features.for_mounts())

    for opened in (store, virtual):
        found = await opened.stat("link")
        assert (found.kind, found.link_target) == (ObjectKind.LINK, "../else/where")
        assert found.size == 13
        listed = {each.key: each for each in (await opened.list("")).objects}
        assert listed["link"].link_target == "../else/where"
    await virtual.move("link", "moved")
    assert (await virtual.stat("moved")).link_target == "../else/where"
    await virtual.make_link("moved", "ours")
    assert (await virtual.stat("moved")).link_target == "ours"

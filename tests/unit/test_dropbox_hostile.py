"""Whatever a Dropbox answers, a store gives an error or a true answer, and soon."""

import gc
import json
import logging
import os
import random
import resource
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from mountfs.backends import (
    _bounded,
    dropbox_batches,
    dropbox_client,
    dropbox_errors,
    dropbox_events,
    dropbox_listing,
    dropbox_pace,
    dropbox_uploads,
    open_events,
    open_space,
    open_store,
)
from mountfs.backends.dropbox_auth import DropboxAuthorization
from mountfs.backends.dropbox_properties import COMMIT, HASH, PIECES, TEMPLATE_NAME
from mountfs.backends.dropbox_tokens import Credentials, save
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import Corrupt, StoreError
from mountfs.storage.events import Change, Space
from mountfs.storage.protocol import Storager
from mountfs.storage.retry import RetryStorager
from mountfs.storage.types import (
    Content,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Page,
    Part,
)
from mountfs.storage.vetted import VettedStorager
from tests.fakes.dropbox_account import TEAM_SPACE
from tests.fakes.dropbox_fixtures import options_of
from tests.fakes.dropbox_lies import fields_of, lies_about, made_into
from tests.fakes.dropbox_server import DropboxServer, Fault, Lie, Truth
from tests.fakes.dropbox_tree import content_hash
from tests.fakes.hostile_server import MIB

SEED = 20261127
SAMPLE = 120
"""So many lies of some thousands."""
DEADLINE_S = 3.0
"""Of each request; some calls are several."""
ENDLESS_S = 0.3
"""Of a request whose answer has no end, as that of most attacks on HTTP."""
LIED_MAX = 200 * MIB
GROWTH_MAX = 400 * MIB
BYTES = b"0123456789"

Answer = object
TEMPLATES = "file_properties/templates/"


@dataclass
class Scene:
    """An account with some files, and a store at one of its folders."""

    server: DropboxServer
    options: dict[str, object]
    token_file: Path
    store: Storager
    patience_s: float = DEADLINE_S


@dataclass(frozen=True)
class Deed:
    """What is asked, and the requests that it takes."""

    routes: tuple[str, ...]
    carry_out: Callable[[Scene], Awaitable[Answer]]
    check: Callable[[Answer], None]


@pytest.fixture
def liar(
    dropbox_certificate: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[DropboxServer]:
    """A Dropbox that lies, and a backend that soon loses its patience."""
    (tmp_path / "runtime").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    for module, name, value in (
        (_bounded, "TOLD_MAX", MIB),
        (dropbox_batches, "_JOB_S", 0.1),
        (dropbox_client, "BUSY_S", 0.01),
        (dropbox_client, "PATIENCE_S", 0.05),
        (dropbox_errors, "PAUSE_MAX_S", 0.02),
        (dropbox_events, "CHANGES_MAX", 50),
        (dropbox_events, "LATE_S", DEADLINE_S - 30),
        (dropbox_events, "PAUSE_MAX_S", 0.02),
        (dropbox_events, "_GATHER_S", 0.0),
        (dropbox_listing, "EMPTY_PAGES_MAX", 8),
        (dropbox_listing, "ENTRIES_MAX", 500),
        (dropbox_listing, "_FETCH_MAX", 2),
        (dropbox_pace, "PAUSE_MAX_S", 0.02),
        (dropbox_uploads, "UPLOAD_MAX", 20),
        (dropbox_uploads, "_PAUSE_S", 0.0001),
    ):
        monkeypatch.setattr(module, name, value)
    with (
        DropboxServer(dropbox_certificate) as server,
        DropboxServer(dropbox_certificate) as elsewhere,
    ):
        server.elsewhere = elsewhere.url
        yield server
        assert elsewhere.routes == [], "the client was led elsewhere"


def scene_of(server: DropboxServer, directory: Path) -> Scene:
    """Begin anew, with the same files."""
    server.reset()
    server.lie = None
    account = server.account
    account.job_rounds = 0
    server.namespaces = frozenset({TEAM_SPACE})
    names = (COMMIT, HASH, *PIECES)
    fields = [{"name": name, "description": "", "type": "string"} for name in names]
    template = {"name": TEMPLATE_NAME, "description": "", "fields": fields}
    made, _ = account.answer(f"{TEMPLATES}add_for_user", template, b"")
    assert isinstance(made, dict)
    kept = {COMMIT: "c1", HASH: content_hash(BYTES), PIECES[0]: '{"mode":"33188"}'}
    group = {
        "template_id": made["template_id"],
        "fields": [{"name": name, "value": text} for name, text in kept.items()],
    }
    for name in ("a", "b", "d/x", "d/y", "d/z", "e/f"):
        argument = {"path": f"/pre/{name}", "property_groups": [group]}
        account.answer("files/upload", argument, BYTES)
    account.answer("files/create_folder_v2", {"path": "/pre/empty"}, b"")
    options = {**options_of(server), "requests_max": 4}
    token_file = directory / "token"
    save(token_file, Credentials("fakekey", "refresh-0"))
    return Scene(server, options, token_file, store_at(options, DEADLINE_S))


def store_at(options: Mapping[str, object], deadline_s: float) -> Storager:
    """Return the store, as a mount has it, with little patience."""
    policy = RetryPolicy(
        attempts=1,
        metadata_s=deadline_s,
        read_s=deadline_s,
        write_s=deadline_s,
        copy_s=deadline_s,
    )
    opened = open_store("dropbox:///pre", options)
    return RetryStorager(VettedStorager(opened), policy)


# --- deeds ----------------------------------------------------------------------------


async def both(
    first: Callable[[], Awaitable[object]], second: Callable[[], Awaitable[object]]
) -> Answer:
    """Do two things at once; return both answers. Raises the first error."""
    answers: list[object] = []
    errors: list[StoreError] = []

    async def do(deed: Callable[[], Awaitable[object]]) -> None:
        try:
            answers.append(await deed())
        except StoreError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(do, first)
        nursery.start_soon(do, second)
    if errors:
        raise errors[0]
    return answers


async def several(scene: Scene) -> Answer:
    """Write three files at once: the first by itself, the others together."""
    store, answers = scene.store, []
    errors: list[StoreError] = []

    async def write(key: str) -> None:
        try:
            answers.append(await store.write(key, BytesBody(BYTES)))
        except StoreError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for key in ("n1", "n2", "n3"):
            nursery.start_soon(write, key)
    if errors:
        raise errors[0]
    return answers


async def in_parts(scene: Scene) -> Answer:
    """Write a file by an upload in parts."""
    store = scene.store
    upload = await store.create_multipart("n1", metadata=Metadata(user={"a": "b"}))
    part = await store.write_part(upload, 0, BytesBody(BYTES))
    assert part == Part(0, len(BYTES), part.etag)
    return await store.complete_multipart(upload, [part])


async def heard(scene: Scene) -> Answer:
    """Hear of a change."""
    events = open_events("dropbox:///pre", {**scene.options, "poll_s": 30})
    assert events is not None
    try:
        assert await events.changes() == ()
        arguments = {"path": "/pre/d/new"}
        scene.server.account.answer("files/upload", arguments, BYTES)
        return await events.changes()
    finally:
        await events.close()


async def asked_for_room(scene: Scene) -> Answer:
    """Ask how full the account is."""
    space = open_space("dropbox:///pre", scene.options)
    assert space is not None
    try:
        # As who asks for statfs(2) does: no answer is none.
        with trio.move_on_after(scene.patience_s):
            return await space.space()
        return None
    finally:
        await space.close()


async def with_options(scene: Scene, **more: object) -> Answer:
    """Look at a file by a store with other options."""
    options = {name: scene.options[name] for name in ("endpoint", "ca_file")}
    store = store_at({**options, **more}, scene.patience_s)
    try:
        return await store.stat("a")
    finally:
        await store.close()


async def let_in(scene: Scene) -> Answer:
    """Turn the code of a user into a token."""
    options = {name: scene.options[name] for name in ("endpoint", "ca_file")}
    path = scene.token_file.with_name("given")
    flow = DropboxAuthorization("fakekey", {**options, "token_file": str(path)})
    challenge = flow.url.partition("code_challenge=")[2].partition("&")[0]
    code = scene.server.tokens.approve(challenge)
    try:
        return await trio.to_thread.run_sync(flow.finish, code)
    finally:
        path.unlink(missing_ok=True)


# --- what may be believed -------------------------------------------------------------


def is_possible(each: Object) -> bool:
    """Tell whether a kernel could be told of an object."""
    is_size = each.size is None or 0 <= each.size < 1 << 63
    return is_size and (each.mtime_ns is None or abs(each.mtime_ns) < 1 << 63)


def one_of(*keys: str) -> Callable[[Answer], None]:
    """Let the answer be an object under one of these keys."""

    def check(answer: Answer) -> None:
        assert isinstance(answer, Object)
        assert answer.key in keys
        assert is_possible(answer)

    return check


def written(*keys: str) -> Callable[[Answer], None]:
    """Let the answer be the files that were written."""

    def check(answer: Answer) -> None:
        found = answer if isinstance(answer, list) else [answer]
        objects = [each for each in found if isinstance(each, Object)]
        assert sorted(each.key for each in objects) == sorted(keys)
        assert all(each.size in (len(BYTES), 3 * len(BYTES)) for each in objects)

    return check


def below(prefix: str) -> Callable[[Answer], None]:
    """Let the answer be a page of what is below a prefix, each once."""

    def check(answer: Answer) -> None:
        assert isinstance(answer, Page)
        keys = [each.key for each in answer.objects]
        assert len(set(keys)) == len(keys)
        for each in answer.objects:
            assert each.key.startswith(prefix)
            names = each.key.removesuffix("/").split("/")
            assert not {"", ".", ".."} & set(names)
            assert "/z" not in each.key.removeprefix("d/z"), "nothing of elsewhere"
            assert is_possible(each)

    return check


def bytes_of(offset: int, size: int) -> Callable[[Answer], None]:
    """Let the answer be the bytes that are there."""

    def check(answer: Answer) -> None:
        assert isinstance(answer, Content)
        assert answer.object.key == "a"
        assert answer.data == BYTES[offset : offset + size]

    return check


def changed(answer: Answer) -> None:
    """Let the answer be changes, or that anything may have changed."""
    assert answer is None or isinstance(answer, tuple | list)
    for each in answer or ():
        assert isinstance(each, Change)
        assert not {".", ".."} & set(each.key.split("/"))


def nothing(answer: Answer) -> None:
    """Let there be no answer."""
    assert answer is None


def failed_few(answer: Answer) -> None:
    """Let the answer be the errors of some of the keys."""
    assert isinstance(answer, dict)
    assert set(answer) <= {"a", "b", "d/x"}
    assert all(isinstance(each, StoreError) for each in answer.values())


def room(answer: Answer) -> None:
    """Let the answer be numbers that statfs(2) can tell, or none."""
    if answer is not None:
        assert isinstance(answer, Space)
        assert 0 <= answer.free <= answer.total < 1 << 64


def link(answer: Answer) -> None:
    """Let the answer be a URL."""
    assert isinstance(answer, str)
    assert answer.startswith("https://")


def kept(answer: Answer) -> None:
    """Let the answer be a file; it is gone by now."""
    assert isinstance(answer, Path)


DEEDS: dict[str, Deed] = {
    "stat": Deed(
        (f"{TEMPLATES}list_for_user", f"{TEMPLATES}get_for_user", "files/get_metadata"),
        lambda scene: scene.store.stat("a"),
        one_of("a", "a/"),
    ),
    "stat of a directory": Deed(
        ("files/get_metadata",),
        lambda scene: scene.store.stat("d/", kind=ObjectKind.DIRECTORY),
        one_of("d/"),
    ),
    "list": Deed(
        ("files/list_folder", "files/list_folder/continue"),
        lambda scene: scene.store.list("d/"),
        below("d/"),
    ),
    "list of all": Deed(
        ("files/list_folder", "files/list_folder/continue"),
        lambda scene: scene.store.list("d/", mode=ListMode.PREFIX),
        below("d/"),
    ),
    "read": Deed(
        ("files/download", "files/get_metadata"),
        lambda scene: scene.store.read("a", 0, 4),
        bytes_of(0, 4),
    ),
    "read from within": Deed(
        ("files/download",), lambda scene: scene.store.read("a", 3, 4), bytes_of(3, 4)
    ),
    "read all": Deed(
        ("files/download",), lambda scene: scene.store.read("a"), bytes_of(0, 10)
    ),
    "write": Deed(
        ("files/get_metadata", "files/upload"),
        lambda scene: scene.store.write("n1", BytesBody(BYTES)),
        written("n1"),
    ),
    "write several": Deed(
        ("files/upload_session/start", "files/upload_session/finish_batch_v2"),
        several,
        written("n1", "n2", "n3"),
    ),
    "write much": Deed(
        tuple(
            f"files/upload_session/{each}" for each in ("start", "append_v2", "finish")
        ),
        lambda scene: scene.store.write("n1", BytesBody(BYTES * 3)),
        written("n1"),
    ),
    "write in parts": Deed(
        tuple(
            f"files/upload_session/{each}" for each in ("start", "append_v2", "finish")
        ),
        in_parts,
        written("n1"),
    ),
    "delete": Deed(
        ("files/get_metadata", "files/delete_v2"),
        lambda scene: scene.store.delete("a"),
        nothing,
    ),
    "delete a directory": Deed(
        ("files/get_metadata", "files/list_folder", "files/delete_v2"),
        lambda scene: scene.store.delete("empty/"),
        nothing,
    ),
    "delete many": Deed(
        ("files/get_metadata", "files/delete_batch", "files/delete_batch/check"),
        lambda scene: scene.store.delete_many(["a", "b", "d/x"]),
        failed_few,
    ),
    "copy": Deed(
        ("files/get_metadata", "files/copy_v2", "file_properties/properties/overwrite"),
        lambda scene: scene.store.copy("a", "n1"),
        one_of("n1"),
    ),
    "move": Deed(
        ("files/get_metadata", "files/move_v2"),
        lambda scene: scene.store.move("a", "n1"),
        one_of("n1"),
    ),
    "move onto": Deed(
        ("files/get_metadata", "files/move_v2", "files/delete_v2"),
        lambda scene: scene.store.move("a", "b"),
        one_of("b"),
    ),
    "make a directory": Deed(
        ("files/create_folder_v2",),
        lambda scene: scene.store.make_dir("n1/"),
        one_of("n1/"),
    ),
    "make two directories": Deed(
        ("files/create_folder_v2", "files/create_folder_batch"),
        lambda scene: both(
            lambda: scene.store.make_dir("n1/"), lambda: scene.store.make_dir("n2/")
        ),
        lambda answer: None,
    ),
    "set metadata": Deed(
        ("file_properties/properties/overwrite",),
        lambda scene: scene.store.set_metadata(
            Object(key="a", size=10), Metadata(user={"a": "b"})
        ),
        one_of("a"),
    ),
    "link": Deed(
        ("files/get_temporary_link",),
        lambda scene: scene.store.sign_read("a", expires_s=60),
        link,
    ),
    "hear of changes": Deed(
        (
            "files/list_folder/get_latest_cursor",
            "files/list_folder/longpoll",
            "files/list_folder/continue",
        ),
        heard,
        changed,
    ),
    "ask for room": Deed(("users/get_space_usage",), asked_for_room, room),
    "look into the team space": Deed(
        ("users/get_current_account",),
        lambda scene: with_options(
            scene, path_root="team", access_token=scene.options["access_token"]
        ),
        one_of("a", "a/"),
    ),
    "renew a token": Deed(
        ("oauth2/token",),
        lambda scene: with_options(scene, token_file=str(scene.token_file)),
        one_of("a", "a/"),
    ),
    "get a token": Deed(("oauth2/token",), let_in, kept),
}
Case = tuple[str, str, str]
"""A deed, the request that is answered with a lie, and that."""
ENDLESS = ("without end", "drip", "silence", "preludes")


async def cases_at(server: DropboxServer, directory: Path) -> dict[Case, Lie]:
    """Return all that can be lied about: the truth says which fields there are."""
    found: dict[Case, Lie] = {}
    for deed, known in DEEDS.items():
        fields: dict[str, set[str]] = {route: set() for route in known.routes}

        def look(truth: Truth, fields: dict[str, set[str]] = fields) -> None:
            if truth.route in fields:
                fields[truth.route] |= fields_of(truth)

        scene = scene_of(server, directory)
        server.lie = look
        await known.carry_out(scene)
        await scene.store.close()
        for route in known.routes:
            lies = lies_about(route, fields[route])
            found |= {(deed, route, name): lie for name, lie in lies.items()}
    return found


def is_endless(name: str) -> bool:
    """Tell whether an attack on HTTP ends with the deadline alone."""
    return name.startswith("HTTP: ") and any(each in name for each in ENDLESS)


async def is_lied_to(
    server: DropboxServer, directory: Path, case: Case, lie: Lie
) -> bool:
    """Lie at one step of a deed; tell whether there was anything to lie about."""
    deed, route, name = case
    scene = scene_of(server, directory)
    if is_endless(name):
        scene.patience_s = ENDLESS_S
        scene.store = store_at(scene.options, ENDLESS_S)
    server.lies = server.lied = 0
    server.lie = lambda truth: lie(truth) if truth.route == route else None
    try:
        with trio.fail_after(10 * DEADLINE_S):
            DEEDS[deed].check(await DEEDS[deed].carry_out(scene))
    except StoreError:
        pass
    except BaseException as error:
        error.add_note(f"{deed}, at {route}: {name}")
        raise
    finally:
        await scene.store.close()
    assert server.lied < LIED_MAX, f"{deed}, at {route}: {name}"
    return server.lies > 0


async def tell_lies(
    server: DropboxServer, directory: Path, cases: Mapping[Case, Lie], most: int
) -> int:
    """Tell so many lies; return how many were told, in bounded memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = 0
    for case, lie in cases.items():
        told += await is_lied_to(server, directory, case, lie)
        if told == most:
            break
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown << 10 < GROWTH_MAX, f"{grown >> 10} MiB more"
    return told


def shuffled(cases: Mapping[Case, Lie], seed: object) -> dict[Case, Lie]:
    """Return the same in an order by chance, without what only a user can end."""
    names = [
        each for each in cases if each[0] != "get a token" or not is_endless(each[2])
    ]
    random.Random(str(seed)).shuffle(names)
    return {name: cases[name] for name in names}


@pytest.mark.parametrize("deed", DEEDS)
async def test_the_truth_is_believed(
    deed: str, liar: DropboxServer, tmp_path: Path
) -> None:
    """Without a lie each deed has its answer, by the requests that are lied to.

    Writes go together if they come together: a busy machine gets more than one try.
    """
    scene, wanted = scene_of(liar, tmp_path), set(DEEDS[deed].routes)

    DEEDS[deed].check(await DEEDS[deed].carry_out(scene))
    for _ in range(4):
        if deed == "write several" and not wanted <= set(liar.routes):
            DEEDS[deed].check(await DEEDS[deed].carry_out(scene))

    await scene.store.close()
    assert wanted <= set(liar.routes)


async def test_a_sample_of_lies(liar: DropboxServer, tmp_path: Path) -> None:
    """Deeds, steps and lies drawn with a fixed seed."""
    cases = await cases_at(liar, tmp_path)
    some = {case: lie for case, lie in cases.items() if "drip" not in case[2]}

    assert await tell_lies(liar, tmp_path, shuffled(some, SEED), SAMPLE) == SAMPLE


async def test_a_download_that_is_to_wait_leaves_no_connection_open(
    liar: DropboxServer, tmp_path: Path
) -> None:
    """A storm of 429s takes no descriptor for each; a warning would fail this."""
    case = ("read from within", "files/download", "a time before")
    lie = (await cases_at(liar, tmp_path))[case]

    assert await is_lied_to(liar, tmp_path, case, lie)
    gc.collect()


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_every_lie(liar: DropboxServer, tmp_path: Path) -> None:
    """Each step of each deed with each lie."""
    cases = shuffled(await cases_at(liar, tmp_path), os.environ.get("SEED", SEED))

    assert await tell_lies(liar, tmp_path, cases, len(cases)) > len(cases) * 3 // 4


@pytest.mark.parametrize("mode", [ListMode.DIRECTORY, ListMode.PREFIX])
async def test_a_name_without_a_key_hides_no_other(
    mode: ListMode,
    liar: DropboxServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A `desktop.ini` that another program put there is left out, and nothing else."""
    caplog.set_level(logging.INFO, logger="mountfs.backends.dropbox_listing")
    scene = scene_of(liar, tmp_path)
    for name in ("desktop.ini", "~$x.docx"):
        liar.account.answer("files/upload", {"path": f"/pre/d/{name}"}, BYTES)

    page = await scene.store.list("d/", mode=mode)

    await scene.store.close()
    found = {each.key for each in page.objects}
    assert found - {"d/"} == {"d/x", "d/y", "d/z"}
    assert "2 entries in 'd/' have no key, and are left out" in caplog.text


async def test_what_goes_while_it_is_listed_is_not_listed(
    liar: DropboxServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The pages that follow tell of a deletion, and of a change, once more."""
    caplog.set_level(logging.INFO, logger="mountfs.backends.dropbox_listing")
    scene = scene_of(liar, tmp_path)
    gone = {".tag": "deleted", "name": "x", "path_lower": "/pre/d/x"}

    def also(truth: Truth) -> list[bytes] | None:
        if truth.route != "files/list_folder/continue":
            return None
        told = json.loads(truth.body)
        told["entries"] += [gone, {**told["entries"][0], "size": 3}]
        return [made_into(truth, json.dumps(told).encode())]

    liar.lie = also
    page = await scene.store.list("d/")

    await scene.store.close()
    assert liar.lies == 1
    assert {each.key: each.size for each in page.objects} == {"d/y": 10, "d/z": 3}
    assert "left out" not in caplog.text


async def test_a_time_that_no_kernel_takes_is_that_of_the_change(
    liar: DropboxServer, tmp_path: Path
) -> None:
    """Any client may say that a file is of the year 9999; it is listed all the same."""
    scene = scene_of(liar, tmp_path)
    late = {"path": "/pre/e/g", "client_modified": "9999-12-31T23:59:59Z"}
    liar.account.answer("files/upload", late, BYTES)

    found = await scene.store.stat("e/g")
    page = await scene.store.list("e/")

    await scene.store.close()
    assert [each.key for each in page.objects] == ["e/f", "e/g"]
    assert found.mtime_ns is not None
    assert found.mtime_ns < 1 << 62


async def test_an_end_that_is_none_is_not_believed(
    liar: DropboxServer, tmp_path: Path
) -> None:
    """A program would take it for all that there is of the file."""
    scene = scene_of(liar, tmp_path)
    liar.add_fault("files/download", Fault(416))

    with pytest.raises(Corrupt):
        await scene.store.read("a", 3, 4)
    end = await scene.store.read("a", 10, 4)

    await scene.store.close()
    assert end.data == b""

"""The fake Dropbox, driven by the real SDK: what the API documentation says holds."""

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import dropbox
import pytest
from dropbox import exceptions, file_properties, files

from mountfs.backends.dropbox_client import session_for
from mountfs.backends.dropbox_errors import tags_of
from mountfs.backends.dropbox_options import parse_options
from tests.fakes.dropbox_fixtures import options_of
from tests.fakes.dropbox_server import DropboxServer, Fault
from tests.fakes.dropbox_tree import content_hash

MIB_4 = 4 << 20


@pytest.fixture
def api(dropbox_server: DropboxServer) -> Iterator[dropbox.Dropbox]:
    """The SDK, which retries nothing."""
    with connected(dropbox_server) as client:
        yield client


def connected(server: DropboxServer, **given: Any) -> dropbox.Dropbox:
    """Return the SDK over TLS to the fake."""
    options = parse_options(options_of(server))
    return dropbox.Dropbox(
        **(given or {"oauth2_access_token": options.access_token}),
        session=session_for(options),
        max_retries_on_error=0,
        max_retries_on_rate_limit=0,
    )


def refusal(call: Callable[[], object]) -> tuple[str, ...]:
    """Return the tags of the error that a call must raise."""
    with pytest.raises(exceptions.ApiError) as caught:
        call()
    return tags_of(caught.value.error)


def test_an_upload_comes_back_by_range(api: dropbox.Dropbox) -> None:
    """Metadata, content hash, and a range; behind the end it is 416."""
    made = api.files_upload(b"some bytes", "/Dir/File")

    known, reply = api.files_download("/dir/file")
    assert reply.content == b"some bytes"
    assert known.rev == made.rev
    assert known.content_hash == content_hash(b"some bytes")
    assert (known.name, known.path_lower) == ("File", "/dir/file")
    argument = files.DownloadArg("/dir/file")
    for text, expected in (("bytes=5-7", b"byt"), ("bytes=8-", b"es")):
        _, reply = api.request(
            files.download, "files", argument, None, extra_headers={"Range": text}
        )
        assert reply.content == expected
    with pytest.raises(exceptions.HttpError) as caught:
        api.request(
            files.download,
            "files",
            argument,
            None,
            extra_headers={"Range": "bytes=10-"},
        )
    assert caught.value.status_code == 416


def test_write_modes_and_strict_conflicts(api: dropbox.Dropbox) -> None:
    """`add`, `update` and `overwrite`, each with equal and with other bytes."""
    add = files.WriteMode.add
    first = api.files_upload(b"1", "/f", mode=add)
    assert refusal(lambda: api.files_upload(b"2", "/f", mode=add)) == (
        "path",
        "conflict",
        "file",
    )
    assert api.files_upload(b"1", "/f", mode=add).rev == first.rev
    assert refusal(lambda: api.files_upload(b"1", "/f", strict_conflict=True))
    update = files.WriteMode.update(first.rev)
    second = api.files_upload(b"2", "/f", mode=update)
    assert second.rev != first.rev
    assert refusal(lambda: api.files_upload(b"3", "/f", mode=update))
    api.files_delete_v2("/f")
    strict = {"mode": update, "strict_conflict": True}
    assert refusal(lambda: api.files_upload(b"3", "/f", **strict))
    api.files_upload(b"3", "/f", mode=files.WriteMode.overwrite)
    assert refusal(lambda: api.files_upload(b"4", "/f/below")) == (
        "path",
        "conflict",
        "file_ancestor",
    )


def test_case_and_normal_form_make_no_difference(api: dropbox.Dropbox) -> None:
    """Names are found in any case, and keep the case that they were made with."""
    api.files_upload(b"1", "/Caf\u00e9/ReadMe")

    assert api.files_get_metadata("/cafe\u0301/readme").name == "ReadMe"
    made = api.files_upload(b"2", "/caf\u00e9/README", mode=files.WriteMode.overwrite)
    assert made.name == "ReadMe"
    assert made.path_display == "/Caf\u00e9/ReadMe"


@pytest.mark.parametrize(
    "path", ["/a\\b", "/a ", "/a//b", "/a/", "/..", "/" + "n" * 256, "/a\x7fb"]
)
def test_paths_that_are_refused(api: dropbox.Dropbox, path: str) -> None:
    """What is no path is malformed; the SDK itself lets these pass."""
    assert refusal(lambda: api.files_upload(b"", path))[-1] == "malformed_path"


def test_listings_go_on_and_then_tell_changes(api: dropbox.Dropbox) -> None:
    """A cursor ends the listing first; later it brings what has changed, deletions
    included."""
    for number in range(5):
        api.files_upload(b"", f"/dir/{number}")
    page = api.files_list_folder("/dir", limit=2)
    names = [each.name for each in page.entries]
    while page.has_more:
        page = api.files_list_folder_continue(page.cursor)
        names += [each.name for each in page.entries]
    assert sorted(names) == ["0", "1", "2", "3", "4"]

    api.files_delete_v2("/dir/3")
    api.files_upload(b"", "/dir/new")
    api.files_upload(b"", "/other")
    changed = api.files_list_folder_continue(page.cursor).entries
    assert [(type(each).__name__, each.name) for each in changed] == [
        ("DeletedMetadata", "3"),
        ("FileMetadata", "new"),
    ]
    assert api.files_list_folder_longpoll(page.cursor, timeout=30).changes
    assert refusal(lambda: api.files_list_folder("/dir/1")) == ("path", "not_folder")
    assert refusal(lambda: api.files_list_folder("/no")) == ("path", "not_found")
    recursive = api.files_list_folder("/dir", recursive=True).entries
    assert recursive[0].path_lower == "/dir"


def test_a_delete_names_a_revision(api: dropbox.Dropbox) -> None:
    """`parent_rev` must be the newest; without it a folder goes with all in it."""
    old = api.files_upload(b"1", "/dir/f")
    api.files_upload(b"2", "/dir/f", mode=files.WriteMode.overwrite)

    assert "conflict" in refusal(lambda: api.files_delete_v2("/dir/f", old.rev))
    api.files_delete_v2("/dir")
    assert refusal(lambda: api.files_get_metadata("/dir/f")) == ("path", "not_found")
    assert api.files_restore("/dir/f", old.rev).size == 1


def test_moves_and_copies_take_folders_and_replace_nothing(
    api: dropbox.Dropbox,
) -> None:
    """One call for a folder; something at the target is a conflict."""
    api.files_upload(b"1", "/a/deep/f")
    api.files_upload(b"2", "/b")

    assert refusal(lambda: api.files_move_v2("/a/deep/f", "/b")) == (
        "to",
        "conflict",
        "file",
    )
    assert refusal(lambda: api.files_move_v2("/a", "/A")) == (
        "duplicated_or_nested_paths",
    )
    moved = api.files_move_v2("/a", "/new/place").metadata
    copied = api.files_copy_v2("/new/place/deep/f", "/c").metadata
    assert moved.path_display == "/new/place"
    assert api.files_download("/c")[1].content == b"1"
    assert copied.id != api.files_get_metadata("/new/place/deep/f").id
    assert refusal(lambda: api.files_copy_v2("/a", "/d")) == (
        "from_lookup",
        "not_found",
    )


def test_concurrent_sessions(api: dropbox.Dropbox) -> None:
    """Pieces in any order at multiples of 4 MiB; the last one closes; then finish."""
    concurrent = files.UploadSessionType.concurrent
    session = api.files_upload_session_start(b"", session_type=concurrent).session_id

    def cursor(offset: int) -> files.UploadSessionCursor:
        return files.UploadSessionCursor(session, offset)

    def append(data: bytes, offset: int, *, close: bool = False) -> None:
        api.files_upload_session_append_v2(data, cursor(offset), close=close)

    commit = files.CommitInfo("/large")
    assert refusal(lambda: append(b"x", MIB_4)) == (
        "concurrent_session_invalid_data_size",
    )
    assert refusal(lambda: append(b"x" * MIB_4, 5))
    append(b"b" * MIB_4, MIB_4)
    assert refusal(lambda: api.files_upload_session_finish(b"", cursor(9), commit)) == (
        "concurrent_session_not_closed",
    )
    append(b"c", 2 * MIB_4, close=True)
    assert refusal(
        lambda: api.files_upload_session_finish(b"", cursor(2 * MIB_4 + 1), commit)
    ) == ("concurrent_session_missing_data",)
    session = api.files_upload_session_start(b"", session_type=concurrent).session_id
    append(b"b" * MIB_4, MIB_4)
    append(b"a" * MIB_4, 0)
    append(b"c", 2 * MIB_4, close=True)
    made = api.files_upload_session_finish(b"", cursor(2 * MIB_4 + 1), commit)

    whole = b"a" * MIB_4 + b"b" * MIB_4 + b"c"
    assert made.size == len(whole)
    assert made.content_hash == content_hash(whole)


def test_a_session_takes_a_piece_again_and_no_other_in_its_place(
    api: dropbox.Dropbox,
) -> None:
    """A session of full pieces is closed by a call without bytes; then all is over."""
    concurrent = files.UploadSessionType.concurrent
    session = api.files_upload_session_start(b"", session_type=concurrent).session_id

    def append(data: bytes, offset: int, *, close: bool = False) -> None:
        cursor = files.UploadSessionCursor(session, offset)
        api.files_upload_session_append_v2(data, cursor, close=close)

    append(b"a" * MIB_4, 0)
    append(b"a" * MIB_4, 0)
    assert refusal(lambda: append(b"b" * MIB_4, 0)) == (
        "concurrent_session_invalid_offset",
    )
    append(b"", MIB_4, close=True)
    assert refusal(lambda: append(b"", MIB_4, close=True)) == ("closed",)
    cursor = files.UploadSessionCursor(session, MIB_4)
    made = api.files_upload_session_finish(b"", cursor, files.CommitInfo("/full"))
    assert made.content_hash == content_hash(b"a" * MIB_4)
    assert refusal(lambda: append(b"", MIB_4)) == ("not_found",)


def test_links_of_desktop_clients_are_told(
    api: dropbox.Dropbox, dropbox_server: DropboxServer
) -> None:
    """[files] FileMetadata.symlink_info: by a look and by a listing, wherever it is."""
    api.files_upload(b"", "/link")
    dropbox_server.account.tree.entries["/link"].target = "some/where"
    assert api.files_get_metadata("/link").symlink_info.target == "some/where"
    api.files_move_v2("/link", "/moved")
    (entry,) = api.files_list_folder("").entries
    assert entry.symlink_info.target == "some/where"


def test_many_sessions_finish_in_one_request(api: dropbox.Dropbox) -> None:
    """Each entry has its own answer, in order."""
    api.files_upload(b"old", "/1")
    entries = []
    for number in range(3):
        begun = api.files_upload_session_start(b"new", close=True)
        cursor = files.UploadSessionCursor(begun.session_id, 3)
        commit = files.CommitInfo(f"/{number}")
        entries.append(files.UploadSessionFinishArg(cursor, commit))

    answers = api.files_upload_session_finish_batch_v2(entries).entries

    assert [each.is_success() for each in answers] == [True, False, True]
    assert tags_of(answers[1].get_failure()) == ("path", "conflict", "file")


def test_properties_ride_on_files_and_folders(api: dropbox.Dropbox) -> None:
    """A template first; then groups in uploads, alone, and in listings."""
    string = file_properties.PropertyType.string
    fields = [file_properties.PropertyFieldTemplate("a", "", string)]
    made = api.file_properties_templates_add_for_user("t", "", fields)
    template_id = made.template_id

    def group(name: str, text: str) -> list[Any]:
        field = file_properties.PropertyField(name, text)
        return [file_properties.PropertyGroup(template_id, [field])]

    wanted = file_properties.TemplateFilterBase.filter_some([template_id])
    api.files_upload(b"", "/dir/f", property_groups=group("a", "1"))
    api.file_properties_properties_overwrite("/dir", group("a", "2"))
    (listed,) = api.files_list_folder("/dir", include_property_groups=wanted).entries
    assert listed.property_groups[0].fields[0].value == "1"
    folder = api.files_get_metadata("/dir", include_property_groups=wanted)
    assert folder.property_groups[0].fields[0].value == "2"
    assert api.files_get_metadata("/dir").property_groups is None

    def overwrite(name: str, text: str) -> object:
        return api.file_properties_properties_overwrite("/dir", group(name, text))

    assert refusal(lambda: overwrite("b", "1")) == ("does_not_fit_template",)
    assert refusal(lambda: overwrite("a", "x" * 1025)) == ("property_field_too_large",)


def test_batches_are_jobs(api: dropbox.Dropbox) -> None:
    """A batch of deletions answers later, entry by entry."""
    api.files_upload(b"", "/a")
    entries = [files.DeleteArg("/a"), files.DeleteArg("/b")]

    job = api.files_delete_batch(entries).get_async_job_id()
    assert api.files_delete_batch_check(job).is_in_progress()
    done = api.files_delete_batch_check(job).get_complete().entries

    assert [each.is_success() for each in done] == [True, False]
    made = api.files_create_folder_batch(["/x", "/y"]).get_complete().entries
    assert all(each.is_success() for each in made)


def test_faults_are_as_documented(
    api: dropbox.Dropbox, dropbox_server: DropboxServer
) -> None:
    """429 with its time, 5xx, a lost answer whose request was carried out, 401."""
    dropbox_server.throttle(retry_after_s=7)
    with pytest.raises(exceptions.RateLimitError) as caught:
        api.files_upload(b"", "/f")
    assert caught.value.backoff == 7
    dropbox_server.add_fault("files/upload", Fault(503))
    with pytest.raises(exceptions.InternalServerError):
        api.files_upload(b"", "/f")
    dropbox_server.lose_answer("files/upload")
    with pytest.raises(OSError, match=r"(?i)connection|remote"):
        api.files_upload(b"", "/f")
    assert api.files_get_metadata("/f").size == 0
    dropbox_server.tokens.expire()
    with pytest.raises(exceptions.AuthError):
        api.files_get_metadata("/f")


def test_tokens_are_refreshed_until_revoked(dropbox_server: DropboxServer) -> None:
    """A refresh token of the app gives access tokens, until the user takes it back."""
    given = {"oauth2_refresh_token": "refresh-0", "app_key": "fakekey"}
    with connected(dropbox_server, **given) as client:
        assert client.check_user("hello").result == "hello"
        dropbox_server.tokens.expire()
        assert client.check_user("again").result == "again"
        dropbox_server.tokens.revoke()
        with pytest.raises(exceptions.AuthError):
            client.check_user("")

    assert dropbox_server.tokens.refreshes == 2


def test_space_and_times(api: dropbox.Dropbox, dropbox_server: DropboxServer) -> None:
    """Usage counts bytes; a full account refuses; the time of a client is kept."""
    moment = datetime.datetime(2001, 2, 3, 4, 5, 6)
    made = api.files_upload(b"12345", "/f", client_modified=moment)

    assert made.client_modified == moment
    assert api.users_get_space_usage().used == 5
    dropbox_server.account.tree.quota = 6
    assert refusal(lambda: api.files_upload(b"12", "/g")) == (
        "path",
        "insufficient_space",
    )

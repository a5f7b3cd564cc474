"""The contract page, sentence by sentence.

Each sentence of `docs/reference/semantics.md` has an id. The test of `S-12` is either
`test_s12_...` here, or the one that `ELSEWHERE` names; the last test of this module
sees that none is missing on either side.
"""

import ast
import errno
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuse.counting import Counted, CountingShim
from tests.fuse.stores import OtherSide, S3Objects, Store
from tests.semantics.conftest import Mounter

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "reference" / "semantics.md"

ELSEWHERE = {
    "fuse/test_requests_journal.py": {
        "S-140": "test_nothing_is_sent_before_a_change_returns",
        "S-141": "test_fsync_returns_without_the_store",
        "S-142": "test_a_new_file_with_a_mode_and_another_name_is_one_put",
    },
    "unit/test_vfs_journaled.py": {
        "S-143": "test_what_waits_survives_the_end_of_a_mount",
        "S-144": "test_an_error_reaches_who_waits_and_the_list",
        "S-145": "test_the_loser_of_a_race_becomes_a_copy",
        "S-146": "test_a_removal_that_waited_long_spares_newer_bytes",
        "S-147": "test_hard_links_have_versions_of_the_store",
    },
    "unit/test_local_only.py": {
        "S-304": "test_it_follows_its_directory",
    },
    "fuse/test_local_only.py": {
        "S-300": "test_it_stays_and_is_seen_after_a_kill",
        "S-301": "test_a_mount_without_the_patterns_sends_it",
        "S-302": "test_a_save_is_one_put_of_the_real_name",
        "S-303": "test_what_is_removed_is_never_sent",
        "S-305": "test_what_the_store_has_is_changed_there",
        "S-306": "test_a_second_name_sends_it",
        "S-307": "test_they_are_sent_when_there_is_no_room",
    },
    "unit/test_checks.py": {
        "S-148": "test_volatile_state_is_refused_where_it_breaks_a_promise",
    },
    "fuse/test_mount_by_system.py": {
        "S-230": "test_a_mount_whose_daemon_died_is_unmounted_with_an_error",
        "S-231": "test_a_line_of_fstab_mounts_remounts_and_unmounts",
        "S-233": "test_an_automount_point_is_mounted_when_somebody_goes_there",
    },
    "recovery/test_takeover.py": {
        "S-232": "test_a_new_mount_goes_on_with_what_the_last_one_sends",
    },
    "fuse/test_s3_events.py": {
        "S-290": "test_what_others_change_is_seen_at_once",
    },
    "fuse/test_insight.py": {
        "S-250": "test_an_operator_sees_what_a_mount_does",
    },
    "fuse/test_secrets.py": {
        "S-260": "test_no_secret_is_told_anywhere",
    },
    "fuse/test_observed.py": {
        "S-261": "test_what_programs_do_is_counted_and_traced",
    },
    "unit/test_vfs_explain.py": {
        "S-251": "test_unknown_is_not_absent",
    },
    "fuse/test_service.py": {
        "S-220": "test_the_life_of_a_service",
        "S-221": "test_what_is_stuck_gives_no_sign_of_life",
        "S-222": "test_a_slow_drain_is_not_cut_short",
        "S-223": "test_a_service_that_was_killed_is_mounted_anew",
        "S-224": "test_programs_are_let_go_of_a_daemon_that_cannot_be_killed",
        "S-225": "test_an_upgrade_leaves_what_is_pending_to_the_next_daemon",
    },
    "fuse/test_security.py": {
        "S-270": "test_what_others_see_of_a_mount",
        "S-271": "test_a_store_of_lies_stays_in_its_mount",
        "S-272": "test_nothing_of_a_mount_is_open_to_others",
    },
    "unit/test_doctor.py": {
        "S-273": "test_everything_is_tried_and_removed_again",
    },
    "fuse/test_room.py": {
        "S-213": "test_a_tree_of_more_names_than_are_kept",
    },
    "unit/test_warmer.py": {
        "S-212": "test_what_has_no_room_is_not_fetched",
    },
    "unit/test_audit.py": {
        "S-202": "test_what_changed_since_it_was_looked_at_stays",
    },
    "recovery/test_outcomes.py": {
        "S-198": "test_too_little_memory_costs_nothing_acknowledged",
        "S-199": "test_a_clock_that_jumps_costs_nothing_but_times",
        "S-200": "test_a_killed_daemon_loses_nothing_acknowledged",
    },
    "unit/test_recover.py": {
        "S-196": "test_a_journal_that_no_mount_takes_names_the_command",
        "S-197": "test_a_rescue_loses_no_byte",
    },
    "unit/test_floor.py": {
        "S-193": "test_clean_bytes_go_when_others_fill_the_disk",
    },
    "recovery/test_small_disk.py": {
        "S-194": "test_a_disk_that_others_fill_costs_no_acknowledged_byte",
        "S-195": "test_a_disk_that_fails_stops_writers_and_no_reader",
    },
    "recovery/test_proxy_faults.py": {
        "S-169": "test_readers_get_right_bytes_when_a_fault_passes",
    },
    "recovery/test_proxy_offline.py": {
        "S-160": "test_a_request_outlasts_an_outage",
        "S-161": "test_waiting_ends",
        "S-162": "test_eio_does_not_wait",
        "S-163": "test_cached_serves_what_is_known",
        "S-164": "test_expired_credentials_are_a_state",
        "S-165": "test_a_bucket_that_is_gone_is_a_state",
        "S-166": "test_a_lazy_mount_waits_for_its_store",
        "S-167": "test_a_lazy_mount_recovers_later",
        "S-168": "test_unmounting_without_a_store_is_bounded",
    },
    "fuse/test_commands.py": {
        "S-201": "test_check_explains_before_it_mends",
        "S-190": "test_status_names_what_the_store_lacks",
        "S-211": "test_a_warm_tree_is_read_without_the_store",
        "S-210": "test_a_mount_is_watched_until_it_is_interrupted",
        "S-191": "test_wait_returns_when_the_store_has_a_file",
    },
    "unit/test_umount.py": {
        "S-192": "test_late_errors_that_were_seen_are_not_told_again",
    },
    "fuse/test_requests_files.py": {
        "S-5": "test_closing_what_was_not_changed_is_free",
    },
    "fuse/test_bytes.py": {
        "S-6": "test_memory_map_written_after_close",
        "S-57": "test_hole_reads_as_zeros",
    },
    "fuse/test_inode_numbers.py": {
        "S-51": "test_directories_count_their_directories",
        "S-63": "test_numbers_survive_a_remount",
    },
    "fuse/test_other_tools.py": {
        "S-120": "test_everything_is_shown_as_what_it_is",
        "S-121": "test_looking_changes_nothing",
        "S-122": "test_changes_keep_what_the_tool_wrote_besides",
    },
    "unit/test_foreign_names.py": {
        "S-123": "test_link_is_listed_and_found_under_its_name",
    },
    "fuse/test_exchange.py": {
        "S-71": "test_any_two_change_places",
    },
    "unit/test_vfs_rename.py": {
        "S-72": "test_exchange_is_finished_by_the_next_mount",
        "S-180": "test_crash_during_a_rename_leaves_one_name",
    },
    "fuse/test_hard_links.py": {
        "S-73": "test_links_survive_a_mount_with_nothing_but_the_store",
        "S-74": "test_every_name_is_a_plain_object",
        "S-75": "test_attributes_belong_to_the_file",
        "S-76": "test_unlinking_counts_down",
        "S-79": "test_bare_symbolic_link_has_one_name",
    },
    "fuse/test_specials.py": {
        "S-101": "test_special_files_survive_a_remount",
        "S-102": "test_two_processes_talk_through_a_pipe",
    },
    "fuse/test_xattrs.py": {
        "S-103": "test_attributes_survive_a_remount",
        "S-104": "test_who_may_do_what",
        "S-105": "test_too_many_names_are_refused_at_once",
        "S-108": "test_capabilities_go_with_a_change_of_the_program",
        "S-109": "test_facts_are_read_by_name",
    },
    "unit/test_vfs_xattrs.py": {
        "S-106": "test_lost_attributes_are_an_error_and_not_none",
        "S-107": "test_a_change_keeps_what_a_listing_did_not_tell",
    },
    "unit/test_vfs_hardlinks.py": {
        "S-77": "test_foreign_write_splits_a_name_off",
        "S-78": "test_crash_between_the_copies_is_mended",
    },
    "recovery/test_kill_daemon.py": {
        "S-7": "test_crash_while_streaming_leaves_the_old_object",
        "S-39": "test_dead_mount_is_no_empty_directory",
        "S-40": "test_what_was_closed_is_in_the_store",
    },
    "fuse/test_failed_close.py": {
        "S-8": "test_store_that_is_back_takes_the_bytes_at_the_next_fsync",
        "S-9": "test_bytes_of_a_failed_close_are_sent_by_the_next_mount",
        "S-16": "test_vanished_store_is_an_error_and_no_absence",
    },
    "fuse/test_cli_mount.py": {
        "S-12": "test_the_same_store_twice_on_one_host_says_why_not",
        "S-36": "test_umount_returns_when_the_store_has_everything",
        "S-38": "test_what_cannot_be_sent_makes_umount_75_and_is_named",
    },
    "fuse/test_foreign_changes.py": {
        "S-13": "test_two_mounts_of_one_store",
        "S-14": "test_change_is_seen_when_the_time_to_live_ends",
        "S-15": "test_open_file_never_mixes_versions",
        "S-17": "test_replaced_file_is_read_anew",
        "S-20": "test_losing_a_race_keeps_the_foreign_bytes",
        "S-110": "test_name_of_a_lost_race_shows_the_foreign_bytes",
    },
    "fuse/test_conflicts.py": {
        "S-170": "test_loser_is_stored_beside",
        "S-171": "test_open_file_goes_on_as_the_copy",
        "S-172": "test_overwrite_takes_the_name",
        "S-173": "test_deleted_object_is_stored_anew",
        "S-179": "test_a_store_that_ignores_conditions_is_named_once",
    },
    "unit/test_attempts.py": {
        "S-178": "test_an_upload_with_our_id_is_aborted_and_no_other",
    },
    "recovery/test_uploads.py": {
        "S-177": "test_killed_upload_is_gone_on_with",
    },
    "unit/test_vfs_late_errors.py": {
        "S-175": "test_every_handle_is_told_once",
    },
    "fuse/test_late_errors.py": {
        "S-176": "test_last_error_is_told_by_name_and_copied_by_nobody",
    },
    "unit/test_conflicts.py": {
        "S-174": "test_what_cannot_be_made_whole_is_kept_here",
    },
    "unit/test_vfs_files.py": {
        "S-68": "test_file_whose_write_was_refused_is_not_stored",
    },
    "unit/test_writeback.py": {
        "S-22": "test_a_store_without_conditions_is_looked_at_first",
    },
    "unit/test_virtual.py": {
        "S-25": "test_move_copies_and_then_deletes",
    },
    "fuse/test_open_and_gone.py": {
        "S-27": "test_directory_renamed_above_a_file_being_written",
        "S-30": "test_unlinked_file_is_written_and_read",
        "S-31": "test_unlinked_file_never_comes_back",
    },
    "fuse/test_directories.py": {
        "S-28": "test_rename_noreplace",
        "S-29": "test_other_flags_of_rename_are_einval",
        "S-53": "test_foreign_directory_outlives_its_last_child",
        "S-54": "test_listing_while_entries_are_made",
    },
    "fuse/test_listings.py": {
        "S-125": "test_entries_have_number_and_type_of_what_they_are",
        "S-126": "test_places_in_a_listing_hold_while_entries_come_and_go",
        "S-127": "test_removed_directory_lists_nothing",
    },
    "fuse/test_times.py": {
        "S-80": "test_rename_moves_the_ctime",
        "S-82": "test_time_of_a_directory_survives_a_remount",
        "S-84": "test_times_survive_a_remount_to_the_nanosecond",
    },
    "unit/test_vfs_times.py": {
        "S-83": "test_no_marker_is_made_for_a_time",
    },
    "fuse/test_programs.py": {
        "S-32": "test_counter_under_a_lock",
        "S-48": "test_copying_with_all_attributes",
    },
    "unit/test_retry.py": {
        "S-33": "test_hanging_read_ends_at_its_deadline",
    },
    "fuse/test_life.py": {
        "S-37": "test_detached_mount_serves_those_inside",
    },
    "fuse/test_names.py": {
        "S-41": "test_names_survive_a_remount",
        "S-42": "test_ordinary_names_are_their_keys",
        "S-43": "test_key_that_is_no_path_is_shown_escaped",
        "S-44": "test_file_beside_a_directory_of_its_name",
        "S-45": "test_name_of_256_bytes_is_too_long",
    },
    "fuse/test_long_names.py": {
        "S-46": "test_too_long_names_and_paths_cost_no_request",
        "S-69": "test_short_name_works_in_a_mount_that_never_listed_it",
    },
    "fuse/test_permissions.py": {
        "S-50": "test_mode_decides_what_others_may",
        "S-124": "test_mode_of_programs_that_know_no_modes_is_the_mounts",
    },
    "fuse/test_open_flags.py": {
        "S-55": "test_appending_descriptors_add_at_the_end",
        "S-62": "test_temporary_file_flag_is_refused_by_name",
    },
    "fuse/test_index.py": {
        "S-115": "test_directory_keeps_its_attributes",
    },
    "unit/test_vfs_index.py": {
        "S-111": "test_foreign_change_is_seen",
        "S-114": "test_unknown_attributes_are_not_the_defaults",
    },
    "unit/test_attribute_index.py": {
        "S-112": "test_dividing_loses_no_change_of_another_mount",
        "S-113": "test_index_of_a_newer_format_is_left_alone",
    },
    "fuse/test_requests_read_only.py": {
        "S-64": "test_read_only_mount_sends_no_write",
        "S-65": "test_credentials_that_may_only_read",
    },
}

CHANGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "mkdir": (lambda at: (at / "new").mkdir(), {"d/", "f", "new/"}),
    "symlink": (lambda at: (at / "new").symlink_to("f"), {"d/", "f", "new"}),
    "rename": (lambda at: (at / "f").rename(at / "new"), {"d/", "new"}),
    "rename-dir": (lambda at: (at / "d").rename(at / "new"), {"f", "new/"}),
    "unlink": (lambda at: (at / "f").unlink(), {"d/"}),
    "rmdir": (lambda at: (at / "d").rmdir(), {"f"}),
    "write": (lambda at: (at / "new").write_bytes(b"x"), {"d/", "f", "new"}),
}


@pytest.mark.parametrize(("change", "keys"), CHANGES.values(), ids=CHANGES)
def test_s1_change_is_stored_when_its_call_returns(
    directory: Path,
    there: OtherSide,
    change: Callable[[Path], object],
    keys: set[str],
) -> None:
    """Whoever looks into the store right after the call sees the change."""
    (directory / "d").mkdir()
    (directory / "f").write_bytes(b"bytes")

    change(directory)

    assert there.listing() == keys


def test_s2_fsync_of_a_directory_asks_for_nothing(
    counted: Counted, directory: Path, there: OtherSide
) -> None:
    """What fsync(2) of a directory promises, each change has kept before."""
    (directory / "new").touch()
    handle = os.open(directory, os.O_RDONLY)

    with counted.requests() as asked:
        os.fsync(handle)
    os.close(handle)

    assert asked == {}
    assert there.listing() == {"new"}


def test_s3_new_file_is_stored_by_its_first_close(
    directory: Path, there: OtherSide
) -> None:
    """A file that was made and not closed is seen in this mount only."""
    with (directory / "new").open("wb"):
        assert os.listdir(directory) == ["new"]
        assert there.listing() == set()

    assert there.listing() == {"new"}


@pytest.mark.parametrize("is_writable", [True, False], ids=["writing", "reading"])
def test_s4_close_waits_for_another_writing_descriptor(
    directory: Path, there: OtherSide, *, is_writable: bool
) -> None:
    """Only a descriptor for writing, of the same process, puts a commit off."""
    path = directory / "f"
    first = os.open(path, os.O_WRONLY | os.O_CREAT)
    second = os.dup(first) if is_writable else os.open(path, os.O_RDONLY)

    os.write(first, b"bytes")
    os.close(first)
    stored_at_first = there.listing()
    os.close(second)

    assert stored_at_first == (set() if is_writable else {"f"})
    assert there.read("f") == b"bytes"


def test_s10_newer_bytes_supersede_those_that_failed(
    counted_store: Store, counting_shim: CountingShim, mount: Mounter
) -> None:
    """What could not be stored is given up when the name is written anew."""
    mounted = mount()
    mounted.announce("")
    with counting_shim.refusing(), pytest.raises(PermissionError):
        (mounted.path / "f").write_bytes(b"failed")

    (mounted.path / "f").write_bytes(b"newer")
    mounted.unmount()

    assert counted_store.there.read("f") == b"newer"


def delete(directory: Path) -> None:
    """Delete a directory, again where somebody has put a file into it meanwhile."""
    for _ in range(10):
        done = subprocess.run(
            ["rm", "-rf", directory],
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
        assert "Directory not empty" in done.stderr
    pytest.fail(f"{directory} is never empty")


def test_s11_cache_may_be_deleted(mount: Mounter) -> None:
    """Nothing is lost with the cache directory, under the mount or after it."""
    first = mount()
    (first.path / "f").write_bytes(b"bytes")
    delete(first.cache_dir)
    assert (first.path / "f").read_bytes() == b"bytes"
    (first.path / "d").mkdir()
    (first.path / "d" / "g").write_bytes(b"more")
    assert (first.path / "d" / "g").read_bytes() == b"more"
    assert os.listdir(first.path / "d") == ["g"]
    first.unmount()
    shutil.rmtree(first.cache_dir)

    again = mount()
    assert (again.path / "d" / "g").read_bytes() == b"more"

    assert (again.path / "f").read_bytes() == b"bytes"


def test_s18_exclusive_create_is_decided_at_close(
    counted: Counted, directory: Path, there: OtherSide
) -> None:
    """Who makes a name that another host has made meanwhile has lost a race."""
    counted.mount.announce("another client")
    file = (directory / "f").open("xb", buffering=0)
    file.write(b"ours")
    there.write("f", b"theirs")

    file.close()

    assert (directory / "f").read_bytes() == b"theirs"
    (copy,) = directory.glob("f (conflict *)")
    assert copy.read_bytes() == b"ours"
    counted.mount.look()


def test_s19_exclusive_mount_trusts_its_answers(
    counted_store: Store, mount: Mounter
) -> None:
    """With --exclusive what the store has said holds until this mount changes it."""
    path = mount("--exclusive").path
    assert os.listdir(path) == []

    counted_store.there.write("f", b"foreign")

    assert not (path / "f").exists()


def test_s21_last_change_of_attributes_wins(directory: Path, there: S3Objects) -> None:
    """A foreign change of attributes alone does not stop a change of ours."""
    path = directory / "f"
    path.write_bytes(b"bytes")
    key = f"{there.prefix}f"
    there.client.copy_object(
        Bucket=there.bucket,
        Key=key,
        CopySource={"Bucket": there.bucket, "Key": key},
        Metadata={"mode": str(0o100600)},
        MetadataDirective="REPLACE",
    )

    path.chmod(0o640)

    found = there.client.head_object(Bucket=there.bucket, Key=key)["Metadata"]
    assert int(found["mode"]) == 0o100640


def test_s23_attributes_of_replaced_bytes_are_not_changed(
    counted: Counted, directory: Path, there: OtherSide
) -> None:
    """A change of attributes is pinned to the bytes that this mount knows."""
    counted.mount.announce("ESTALE")
    path = directory / "f"
    path.write_bytes(b"bytes")
    there.write("f", b"foreign bytes")

    # The kernel looks the name up again and repeats the call for what is there now.
    path.chmod(0o640)

    assert there.read("f") == b"foreign bytes"
    assert path.read_bytes() == b"foreign bytes"


def test_s24_replacing_rename_never_shows_a_gap(directory: Path) -> None:
    """While files are renamed over a name, in this mount the name always exists."""
    path = directory / "f"
    path.write_bytes(b"0")
    is_over = threading.Event()
    missing: list[int] = []

    def look() -> None:
        while not is_over.is_set():
            try:
                path.read_bytes()
            except FileNotFoundError as error:
                missing.append(error.errno or 0)

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(20):
        beside = directory / "beside"
        beside.write_bytes(b"%d" % number)
        beside.rename(path)
    is_over.set()
    reader.join()

    assert missing == []


def test_s26_directory_rename_is_finished_after_a_crash(
    counted_store: Store, counting_shim: CountingShim, mount: Mounter
) -> None:
    """A daemon that is killed in the midst leaves the rest to the next mount."""
    mounted = mount()
    for number in range(5):
        counted_store.there.write(f"old/{number}", b"bytes")
    os.listdir(mounted.path)
    program = "import os, sys; os.rename(*sys.argv[1:])"
    old, new = mounted.path / "old", mounted.path / "new"
    with counting_shim.refusing(), counting_shim.holding("CopyObject") as come:
        renaming = subprocess.Popen(
            [sys.executable, "-c", program, old, new], stderr=subprocess.DEVNULL
        )
        assert come.wait(30)
        mounted.kill()
        renaming.wait(30)
    before = counted_store.there.listing()

    again = mount()

    assert before == {f"old/{number}" for number in range(5)}
    assert counted_store.there.listing() == {f"new/{number}" for number in range(5)}
    assert sorted(os.listdir(again.path / "new")) == list("01234")
    assert not (again.path / "old").exists()


def test_s34_stuck_object_holds_up_no_other(
    counting_shim: CountingShim, directory: Path
) -> None:
    """While one upload gets no answer, others go on."""
    slow = threading.Thread(target=(directory / "slow").write_bytes, args=(b"x",))
    with counting_shim.holding("PutObject", key="/slow") as come:
        slow.start()
        assert come.wait(30)
        (directory / "quick").write_bytes(b"x")
        assert (directory / "quick").read_bytes() == b"x"
        is_waiting = slow.is_alive()
    slow.join()

    assert is_waiting


def test_s35_s81_times_are_stored_with_the_next_change(mount: Mounter) -> None:
    """What reading and renaming set is shown, and stored only with something else."""
    first = mount()
    names = ["unchanged", "changed"]
    for name in names:
        (first.path / "old").write_bytes(b"bytes")
        os.utime(first.path / "old", ns=(5, 7))
        (first.path / "old").rename(first.path / name)
        (first.path / name).read_bytes()
    shown = [(first.path / name).stat() for name in names]
    (first.path / "changed").chmod(0o600)
    first.unmount()

    again = mount(at="again")
    unchanged, changed = ((again.path / name).stat() for name in names)

    assert all(each.st_atime_ns > 10**18 for each in shown)
    assert unchanged.st_atime_ns == 5
    assert unchanged.st_ctime_ns < shown[0].st_ctime_ns
    assert changed.st_atime_ns == shown[1].st_atime_ns
    assert unchanged.st_mtime_ns == changed.st_mtime_ns == 7


def test_s47_reserved_directory_is_hidden(mount: Mounter) -> None:
    """`.mountfs` in the root is not listed, not found and not to be made."""
    path = mount().path

    with pytest.raises(PermissionError) as caught:
        (path / ".mountfs").mkdir()

    assert caught.value.errno == errno.EPERM
    assert not (path / ".mountfs").exists()


def test_s49_defaults_stand_in_for_attributes(
    counted_store: Store, mount: Mounter
) -> None:
    """An object that carries none has the mount's owner and mode, the store's time."""
    there = counted_store.there
    assert isinstance(there, S3Objects)
    there.write("f", b"bytes")
    head = there.client.head_object(Bucket=there.bucket, Key=f"{there.prefix}f")

    path = mount("--uid=12", "--gid=34", "--file-mode=640").path
    found = (path / "f").stat()

    assert stat.S_IMODE(found.st_mode) == 0o640
    assert (found.st_uid, found.st_gid) == (12, 34)
    assert found.st_mtime == head["LastModified"].timestamp()


def test_s52_group_is_inherited_from_a_setgid_directory(directory: Path) -> None:
    """Below a directory with S_ISGID the group stays the same."""
    os.chown(directory, 0, 34)
    directory.chmod(0o2775)
    (directory / "d").mkdir()
    (directory / "f").touch()

    assert (directory / "d").stat().st_gid == 34
    assert (directory / "d").stat().st_mode & stat.S_ISGID
    assert (directory / "f").stat().st_gid == 34


def test_s56_append_over_foreign_bytes_is_refused(
    counted: Counted, directory: Path, there: OtherSide
) -> None:
    """A descriptor appends to the version that it opened, or not at all."""
    counted.mount.announce("another client")
    (directory / "f").write_bytes(b"one\n")
    file = (directory / "f").open("ab", buffering=0)
    there.write("f", b"one\ntheirs\n")
    file.write(b"two\n")

    file.close()

    assert there.read("f") == b"one\ntheirs\n"
    (copy,) = directory.glob("f (conflict *)")
    assert copy.read_bytes() == b"one\ntwo\n"
    counted.mount.look()


REFUSED: dict[str, tuple[Callable[[Path], object], int]] = {
    "S-58": (lambda path: os.setxattr(path, "user.a", b"b"), errno.EOPNOTSUPP),
    "S-59": (lambda path: os.link(path, f"{path}2"), errno.EPERM),
    "S-60": (lambda path: os.mkfifo(f"{path}2"), errno.EPERM),
}


@pytest.mark.parametrize(("attempt", "code"), REFUSED.values(), ids=REFUSED)
def test_s58_s59_s60_calls_that_are_not_offered(
    directory: Path, attempt: Callable[[Path], object], code: int
) -> None:
    """Each refusal has the errno that the manual names for it."""
    path = directory / "f"
    path.touch()

    with pytest.raises(OSError, match=r".") as caught:
        attempt(path)

    assert caught.value.errno == code


def test_s61_space_is_reserved_by_writing_zeros(directory: Path) -> None:
    """fallocate(1) is refused, and posix_fallocate(3) extends the file."""
    path = directory / "f"
    path.touch()

    done = subprocess.run(
        ["fallocate", "-l", "4096", path], check=False, capture_output=True
    )
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 4096)

    assert b"not supported" in done.stderr
    assert path.read_bytes() == bytes(4096)


def test_s66_free_space_is_one_pebibyte(directory: Path) -> None:
    """statvfs(3) shows room without an end: object stores do not tell."""
    found = os.statvfs(directory)

    assert found.f_bavail * found.f_frsize == 1 << 50


def test_s67_signal_ends_with_everything_stored(
    counted_store: Store, mount: Mounter
) -> None:
    """SIGTERM to the daemon is as good as umount."""
    mounted = mount()
    (mounted.path / "f").write_bytes(b"bytes")

    assert mounted.end(signal.SIGTERM) == 0
    assert counted_store.there.read("f") == b"bytes"


# --- the page ---------------------------------------------------------------------


def ids_of_the_page() -> list[str]:
    """Return the ids of all sentences, as they stand."""
    return re.findall(r"^\* \*\*(S-\d+)\*\* ", PAGE.read_text(), re.MULTILINE)


def names_in(path: Path) -> set[str]:
    """Return the names of the tests in a module."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def ids_tested_here() -> set[str]:
    """Return the ids in the names of this module's tests."""
    heads = (re.match(r"test((?:_s\d+)+)_", name) for name in names_in(Path(__file__)))
    return {
        f"S-{number}"
        for head in heads
        if head
        for number in re.findall(r"_s(\d+)", head[1])
    }


def test_every_sentence_has_a_test_and_every_test_a_sentence() -> None:
    """The ids of the page and those of the tests are the same, once each."""
    ids = ids_of_the_page()

    assert len(ids) == len(set(ids))
    elsewhere = [id for tests in ELSEWHERE.values() for id in tests]
    assert sorted(ids) == sorted([*ids_tested_here(), *elsewhere])


@pytest.mark.parametrize("module", ELSEWHERE)
def test_what_is_tested_elsewhere_is_there(module: str) -> None:
    """The tests that the table names exist."""
    names = set(ELSEWHERE[module].values())

    assert names <= names_in(CHECKOUT / "tests" / module)


def test_no_other_line_of_the_page_is_a_claim_without_id() -> None:
    """Every item of a list on the page begins with its id."""
    items = re.findall(r"^\* (.{8})", PAGE.read_text(), re.MULTILINE)

    assert all(item.startswith("**S-") for item in items)

"""Which words of mount(8) are for mountfs."""

import pytest

from mountfs.configuration.fstab import join_options, own_pairs
from mountfs.configuration.settings import split_options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("defaults,_netdev,nofail,x-systemd.automount,X-mount.mkdir", ""),
        ("user=alice,users,owner,group,auto,noauto,comment=mine,uhelper=x", ""),
        ("rw,suid,dev,exec,relatime,nosuid,nodev,default_permissions", ""),
        ("ro,noexec,noatime,ttl=5s", "read-only,noexec,noatime,ttl=5s"),
        ("ro,rw", ""),
        ("read-only,noexec,noatime,rw,exec,atime", ""),
        ("rw,ro", "read-only"),
        ("noexec,exec,noexec", "noexec"),
        ("no-such-word,", "no-such-word"),
    ],
)
def test_words_of_others_are_left_out_and_a_later_word_holds(
    text: str, expected: str
) -> None:
    """What mount(8), systemd or the kernel act on is no option of ours."""
    assert join_options(own_pairs(split_options(text))) == expected


def test_joined_options_can_be_split_again() -> None:
    """Commas and backslashes in values survive."""
    pairs = [("virtual", "dir,link"), ("profile", "a\\b"), ("lazy", "")]

    assert split_options(join_options(pairs)) == pairs

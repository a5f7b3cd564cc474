"""The locks of keys: what is told at their end."""

import pytest

from mountfs.cache.keylocks import KeyLocks
from mountfs.cache.news import News


async def test_what_fails_under_a_lock_is_news_as_well() -> None:
    """What was passed over because of the lock must be looked at again."""
    news = News()
    locks = KeyLocks(news)
    with pytest.raises(OSError, match="no room"):
        await fail_under(locks)

    assert not locks.is_held("key")
    assert news.told == 1


async def fail_under(locks: KeyLocks) -> None:
    async with locks.held("key"):
        assert locks.is_held("key")
        raise OSError("no room")

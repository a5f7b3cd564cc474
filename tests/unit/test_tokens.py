"""The order of a page is that of the bytes that its keys stand for."""

from hypothesis import example, given
from hypothesis import strategies as st

from mountfs.backends._tokens import in_byte_order, key_bytes, key_text
from mountfs.storage.types import Object

KEYS = st.binary(max_size=4).map(key_text) | st.text(max_size=4)


@given(st.lists(KEYS))
@example(["\U0001f600", key_text(b"\xff"), "\uffff", "a"])
def test_objects_are_put_in_the_order_of_bytes(keys: list[str]) -> None:
    """Also of those that are no UTF-8, which texts have elsewhere."""
    found = in_byte_order(Object(key=key) for key in keys)

    assert [key_bytes(each.key) for each in found] == sorted(map(key_bytes, keys))

"""The storage contract, and the wrappers that go around any store."""

"""The tests of mountfs; a package so that `tests.fakes` can be imported."""

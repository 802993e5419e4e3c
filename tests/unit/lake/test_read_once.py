"""A file is read again when another stands under its name, and only then."""

import os

import pytest

from lake import atomic, read_once
from lake.read_once import ReadOnce


def test_a_file_is_read_once_until_it_is_replaced(tmp_path):
    file, reads = tmp_path / "record.json", []

    def make(path: str) -> str:
        reads.append(path)
        return file.read_text()

    read = ReadOnce(make)
    with pytest.raises(FileNotFoundError):
        read(str(file))
    for content, count in (("one", 1), ("two", 2), ("six", 3)):  # of one size
        atomic.write_text(file, content)
        assert [read(str(file)) for _ in range(3)] == [content] * 3
        assert len(reads) == count
    os.utime(file, ns=(1, 1))
    assert (read(str(file)), len(reads)) == ("six", 4)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        read(str(file))


def test_what_is_held_has_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(read_once, "MOST_HELD", 3)
    read = ReadOnce(lambda path: path)
    for i in range(10):
        (tmp_path / str(i)).touch()
        assert read(str(tmp_path / str(i))) == str(tmp_path / str(i))
        assert len(read._held) <= 3

"""The files that globs name."""

import pytest

from ingest.errors import SourceUnreachable
from ingest.named_files import named_files


def test_each_file_once_in_order_of_name(tmp_path):
    for name in ("b.csv", "a.csv", "a.csv.CHECKSUM"):
        (tmp_path / name).touch()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    found = named_files([f"{tmp_path}/*", f"{tmp_path}/b.*"], beside=(".CHECKSUM",))
    assert [path.name for path in found] == ["a.csv", "b.csv"]


def test_a_name_that_exists_is_no_glob(tmp_path):
    meant, other = tmp_path / "events[1].ndjson", tmp_path / "events1.ndjson"
    meant.touch()
    other.touch()
    assert named_files([str(meant)]) == [meant]


def test_a_glob_that_names_no_file_is_an_unreachable_source(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(SourceUnreachable, match=r"no file matched .*fold"):
        named_files([f"{tmp_path}/fold*"])

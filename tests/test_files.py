"""Files that are written whole or not at all."""

import os
import stat
import sys

import pytest
from conftest import full_disk

from cartpole_lessons._support.files import atomic_write, without_version


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_and_its_folder_are_there_when_the_block_is_left_and_not_before(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    with atomic_write(str(path)) as file:
        file.write(b"first")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"first"
    assert names(path.parent) == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows replaces no file that somebody reads")
def test_who_reads_the_old_file_meanwhile_reads_all_of_it(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with path.open("rb") as reader:
        with atomic_write(path) as file:
            file.write(b"after")
        assert reader.read() == b"before"
    assert path.read_bytes() == b"after"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, "a full disk"])
def test_what_stood_there_before_is_untouched_by_an_error(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def write_half():
        with atomic_write(path) as file:
            file.write(b"half")
            if error == "a full disk":
                with full_disk(1_000):
                    file.write(bytes(100_000))
            raise error

    with pytest.raises(OSError if error == "a full disk" else error):
        write_half()
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_made_is_an_os_error(unwritable):
    with pytest.raises(OSError, match="file"), atomic_write(unwritable / "file"):
        pytest.fail("there is nothing to write to")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_it_can_be_read_by_whom_any_new_file_can(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "file"):
            pass
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


def test_the_number_of_the_readers_python_is_all_that_is_taken_out_of_a_notebook():
    notebook = {"type": "notebook", "content": {"metadata": {"language_info": {"name": "python", "version": "3.13.1"}}, "cells": []}}
    without_version(model=notebook, path="a.ipynb", contents_manager=None)
    assert notebook == {"type": "notebook", "content": {"metadata": {"language_info": {"name": "python"}}, "cells": []}}
    for other in ({"type": "file", "content": "text"}, {"type": "notebook", "content": {"metadata": {}}}):
        before = repr(other)
        without_version(model=other)
        assert repr(other) == before

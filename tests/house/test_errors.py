import errno

import pytest

from worldstereo_cli.errors import InputError, OutOfMemory, storage_error


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "x.ply cannot be written: the disk is full."),
        (errno.EFBIG, "x.ply cannot be written: the largest size of a file is reached."),
        (errno.EROFS, "x.ply cannot be written: Read-only file system."),
        (errno.EACCES, "x.ply cannot be written: Permission denied."),
        (errno.EIO, "x.ply: Input/output error."),
    ],
)
def test_what_a_disk_refuses_is_put_into_words(number, words):
    told = storage_error(OSError(number, __import__("os").strerror(number), "x.ply"))
    assert isinstance(told, InputError)
    assert told.problem == words


def test_numpys_short_write_is_a_full_disk():
    told = storage_error(OSError("4096 requested and 100 written"), "What lift made")
    assert told is not None
    assert told.problem == "What lift made cannot be written: the disk is full."


def test_no_memory_for_the_system_is_out_of_memory():
    assert isinstance(storage_error(OSError(errno.ENOMEM, "Cannot allocate memory")), OutOfMemory)


def test_a_missing_file_stays_a_bug():
    assert storage_error(FileNotFoundError(errno.ENOENT, "No such file or directory", "x")) is None

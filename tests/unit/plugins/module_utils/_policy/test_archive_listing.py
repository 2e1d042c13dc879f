# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import stat

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import archive_listing
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.archive_listing import Entry, check
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError

PROGRAM = Entry("llama-box", 1000, 500, stat.S_IFREG | 0o755)
LIBRARY = Entry("libggml.dylib", 10, 10)
ADVICE = "; get it again from https://github.com/gpustack/llama-box/releases"
GIB = 1024**3


OF_THE_LOCK = "; restore the lock from version control, or take out its entry and run the playbook metalfleet.gpustack.lock again"


def refusal(*entries: Entry, expected=None) -> str:
    with pytest.raises(BadInputError) as caught:
        check(entries, "/a.zip", expected)
    message = str(caught.value)
    assert message.startswith("/a.zip is not unpacked: ")
    advice = ADVICE if expected is None else OF_THE_LOCK
    assert message.endswith(advice)
    return message[len("/a.zip is not unpacked: ") : -len(advice)]


def test_names_what_is_to_be_unpacked():
    assert check([PROGRAM], "/a.zip") == ("llama-box",)
    assert check([LIBRARY, PROGRAM], "/a.zip", ["llama-box", "libggml.dylib"]) == ("libggml.dylib", "llama-box")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (Entry("/etc/passwd", 1, 1), "is an absolute path"),
        (Entry("../llama-box", 1, 1), "is a path, and not the name of a file"),
        (Entry("a/b", 1, 1), "is a path, and not the name of a file"),
        (Entry("a\\b", 1, 1), "is a path, and not the name of a file"),
        (Entry("\\\\host\\share", 1, 1), "is a path, and not the name of a file"),
        (Entry("..", 1, 1), "is not the plain name of a file"),
        (Entry("", 1, 1), "is not the plain name of a file"),
        (Entry("C:x", 1, 1), "is not the plain name of a file"),
        (Entry("a\x00b", 1, 1), "is not the plain name of a file"),
        (Entry("a\nb", 1, 1), "is not the plain name of a file"),
        (Entry("folder/", 0, 0), "is a folder"),
        (Entry("folder", 0, 0, stat.S_IFDIR | 0o755), "is a folder"),
        (Entry("link", 1, 1, stat.S_IFLNK | 0o777), "is a symbolic link"),
        (Entry("device", 1, 1, stat.S_IFCHR | 0o600), "is neither a file nor a folder"),
        (Entry("pipe", 1, 1, stat.S_IFIFO | 0o600), "is neither a file nor a folder"),
        (Entry("llama-box", 1, 1, is_encrypted=True), "is encrypted"),
        (Entry("llama-box", 1, 1, method=14), "is compressed by method 14, which not every Python can read"),
    ],
)
def test_unpacks_nothing_but_plain_files(entry, problem):
    assert refusal(LIBRARY, entry) == f"{entry.name!r} {problem}"


@pytest.mark.parametrize("method", [0, 8])
def test_takes_what_is_stored_and_what_is_deflated(method):
    assert check([Entry("llama-box", 1, 1, method=method)], "/a.zip") == ("llama-box",)


@pytest.mark.parametrize("again", ["libggml.dylib", "LibGGML.dylib"])
def test_refuses_one_name_twice(again):
    assert refusal(PROGRAM, LIBRARY, Entry(again, 1, 1)) == f"{again!r} is in it twice"


def test_says_what_is_wrong_with_a_name_before_that_it_is_there_twice():
    assert refusal(PROGRAM, Entry("../x", 1, 1), Entry("../x", 1, 1)) == "'../x' is a path, and not the name of a file"


def test_refuses_what_would_fill_the_disk():
    big = [Entry("llama-box", 2 * GIB, GIB), Entry("libggml.so", 2 * GIB, GIB)]
    assert check(big, "/a.zip") == ("llama-box", "libggml.so")
    assert refusal(*big, Entry("x", 1, 1)) == f"it unpacks to {4 * GIB + 1} bytes, and the limit is {4 * GIB}"


def test_refuses_what_grows_beyond_belief():
    assert check([Entry("llama-box", 150, 1), Entry("x", 250, 1)], "/a.zip") == ("llama-box", "x")
    assert refusal(Entry("llama-box", 151, 1), Entry("x", 250, 1)) == "it unpacks to 401 bytes from 2, and the limit is 200 times"


def test_limits():
    assert archive_listing.LARGEST_UNPACKED_BYTES == 4 * GIB
    assert archive_listing.LARGEST_RATIO == 200


@pytest.mark.parametrize("entries", [[], [LIBRARY]])
def test_wants_the_program(entries):
    assert refusal(*entries) == "there is no llama-box in it"


def test_wants_what_the_lock_says():
    assert refusal(PROGRAM, expected=["llama-box", "b.so", "a.so"]) == "by the lock it lacks a.so, b.so"
    assert refusal(PROGRAM, Entry("z.so", 1, 1), LIBRARY, expected=["llama-box"]) == "by the lock it also holds libggml.dylib, z.so"

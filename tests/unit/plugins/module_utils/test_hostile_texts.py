# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What fuzzing has found, and what stands between: errors of Python's own, and searches that take hours in a text made for that.

Each of these texts took from ten seconds to minutes, or ended in a traceback.
"""

from __future__ import annotations

import plistlib
import struct
import time
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import journal, pending
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import (
    env_readers,
    environment_file,
    instance_age,
    property_list,
    server_answers,
    systemd_show,
    versions,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost

TIMES = 20_000
# Of CPU, so that a busy machine is no failure; what is linear takes less than one.
LIMIT_SECONDS = 8.0


def binary_plist(objects: t.Sequence[bytes]) -> bytes:
    """A binary property list of these objects, the first being the whole; references take two bytes."""
    body, offsets = b"bplist00", b""
    for one in objects:
        offsets += struct.pack(">I", len(body))
        body += one
    return body + offsets + struct.pack(">6xBBQQQ", 4, 2, len(objects), 0, len(body))


def deep(levels: int) -> t.Any:
    """Arrays in arrays, by the format's own means: plistlib cannot write them."""
    arrays = [b"\xa1" + struct.pack(">H", number + 1) for number in range(2, levels)]
    return binary_plist([b"\xd1" + struct.pack(">HH", 1, 2), b"\x51a", *arrays, b"\xa0"])


@pytest.mark.parametrize(
    "data",
    [
        deep(3000),
        plistlib.dumps({"a": []}).replace(b"<array/>", b"<array>" * 3000 + b"</array>" * 3000),
        # A key that is a number.
        binary_plist([b"\xd1" + struct.pack(">HH", 1, 2), b"\x10\x05", b"\x51a"]),
    ],
)
def test_a_property_list_that_could_not_be_written_again_is_refused(data: bytes) -> None:
    with pytest.raises(BadInputError, match=r"^/x\.plist is not a property list that can be read "):
        property_list.parse(data, "/x.plist")


def test_the_helper_makes_property_lists() -> None:
    assert property_list.parse(deep(4), "/x").content == {"a": [[[]]]}


@pytest.mark.parametrize(
    "text", ["9" * 5000, "1." + "9" * 5000, "1.0rc" + "9" * 5000, "1.0-" + "9" * 5000 + "-gabcdef0", "1.0.post" + "9" * 5000]
)
def test_a_number_of_thousands_of_digits_is_no_version(text: str) -> None:
    versions.parse(text)
    assert versions.series(text) in (None, (1, 0))
    assert versions.support(text).reason


@pytest.mark.parametrize("content", [b'{"started": Infinity}', b'{"started": 1e999}', b"[" * 100_000, b'{"a":' * 100_000])
def test_records_that_python_stumbles_over_are_none(content: bytes) -> None:
    names = ("journal.json", "previous.json", "pending-restart.json")
    host: t.Any = MemoryHost(files={f"/var/db/metalfleet/{name}": content for name in names})
    assert (journal.read_journal(host), journal.read_previous(host), pending.read_pending(host)) == (None, None, None)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (systemd_show.split_quoted, '"' + '\\"' * TIMES),
        (systemd_show.split_quoted, "$'" + "\\'" * TIMES),
        (server_answers.Redactor().clean, "eyJa-" * TIMES),
        (server_answers.Redactor().clean, "-eyJa." * TIMES),
        (server_answers.Redactor().clean, "'env': {" * TIMES),
        (server_answers.Redactor().clean, "gpustack_" * TIMES),
        (server_answers.parse_refusal, '{"message": "' + "'loc': (" * TIMES + '"}'),
        (instance_age.command_line, "Run llama-box: " * TIMES),
        (env_readers.read_systemd, "A=1\n" * TIMES),
        (lambda text: environment_file.find_variable(text.encode(), "X", env_readers.SYSTEMD), "A=1\n" * TIMES),
    ],
)
def test_no_text_makes_a_search_endless(read: t.Callable[[str], t.Any], text: str) -> None:
    began = time.process_time()
    read(text)
    assert time.process_time() - began < LIMIT_SECONDS


def test_what_has_a_limit_now_is_still_found() -> None:
    token = f"eyJ{'a' * 400}.eyJ{'b' * 4000}.{'c' * 4000}"
    assert server_answers.Redactor().clean(f"x {token} y") == f"x {server_answers.HIDDEN} y"
    assert instance_age.command_line(f"Run llama-box: /{'a' * 4000}/llama-box with arguments: --a b") == ["--a", "b"]
    text = "\\".join(['"a b" $', "'c d' "]) + '"e \\" f" "open'
    assert systemd_show.split_quoted(text)[-1] == '"open'

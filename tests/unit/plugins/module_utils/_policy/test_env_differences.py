# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the two readers disagree: the line is named, the reason too, and no value."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_differences import Difference, find_differences
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_readers import decode, read_install_sh, read_systemd
from ansible_collections.metalfleet.gpustack.tests.unit.properties import PROPERTY, file_bytes
from hypothesis import given

XML = "its `&`, `<` or `]]>` is copied into XML without escaping, which breaks the property list"
NO_NAME = "what stands before its `=` is not a name that a variable can have"
CR = "systemd starts a new line at a carriage return; install.sh does not"
CONTINUED = "systemd before 254 takes it for a part of the comment above, which ends with a backslash"


@pytest.mark.parametrize(
    ("text", "differences"),
    [
        ("", []),
        ("A=1\n# c\n\nB='x y'\nC=\"z\"\n", []),
        # Neither takes it, for the same reason.
        ("export A=1\n", []),
        ("nonsense\n", [(1, "it has no `=` and becomes a variable with an empty value for install.sh; systemd ignores the line")]),
        ("=1\n", [(1, f"{NO_NAME} (install.sh); it has no `=` (systemd)")]),
        ("A=1", [(1, "only systemd reads it as it stands; for install.sh the last line has no line end")]),
        (
            "B=1\nA=a&b\n",
            [
                (
                    2,
                    "only systemd reads it as it stands; for install.sh " + XML,
                )
            ],
        ),
        ("A=x\\y\n", [(1, "only systemd reads it as it stands; for install.sh its backslash is interpreted by echo and printf")]),
        (" A=1\n", [(1, f"only systemd reads it as it stands; for install.sh {NO_NAME}")]),
        ("A=1 \n", [(1, "its quotes or spaces mean different values to them")]),
        ("A=x=\n", [(1, "its quotes or spaces mean different values to them")]),
        ("A='x' y\n", [(1, "its quotes or spaces mean different values to them")]),
        (" \n", [(1, "it holds only spaces, which install.sh takes for a variable")]),
        ("; A=1\n", [(1, "systemd takes it for a comment; install.sh knows only comments that start the line with #")]),
        (" # A=1\n", [(1, "systemd takes it for a comment; install.sh knows only comments that start the line with #")]),
        (
            "B=1\nA='x\ny=2\n'\n",
            [
                (2, "its quotes or spaces mean different values to them"),
                (3, "systemd takes it for a part of the value that starts on line 2; install.sh for a variable"),
                (4, "systemd takes it for a part of the value that starts on line 2; install.sh for a variable"),
            ],
        ),
        ("A=1\nB=2\nA=3\nA=4\n", [(n, "A was set on line 1 already: systemd takes the last, install.sh copies both") for n in (3, 4)]),
        ("export A=1\nB=1\nB=2\n", [(3, "B was set on line 2 already: systemd takes the last, install.sh copies both")]),
        ("; B=1\nA=1\n", [(1, "systemd takes it for a comment; install.sh knows only comments that start the line with #")]),
        ("A=1\n; B=1\n", [(2, "systemd takes it for a comment; install.sh knows only comments that start the line with #")]),
        # What is no assignment is set by none of them, however often.
        ("export A=1\nexport A=2\n", []),
        ("A=1\r\n", [(1, "only systemd reads it as it stands; for install.sh it holds a control character")]),
        ("A=1\rB=2\n", [(1, CR), (1, "its quotes or spaces mean different values to them")]),
        ("#\rB=2\n", [(1, CR)]),
        ("# c\\\nA=1\nB=1\n", [(2, CONTINUED)]),
        ("# c\\\nA=1\n# c\\\nB=1\n", [(2, CONTINUED), (4, CONTINUED)]),
        ("A=\udcff\n", [(1, "systemd ignores the whole file, because line 1 is not valid UTF-8; install.sh does not")]),
        ("A=1\n\0", [(1, "systemd ignores the whole file, because it holds a NUL byte; install.sh does not")]),
    ],
)
def test_differences(text: str, differences: t.List[t.Tuple[int, str]]) -> None:
    found = find_differences(text)
    if (1, CR) in differences and len(differences) > 1:
        assert (1, CR) in [(difference.line, difference.reason) for difference in found]
        return
    assert found == [Difference(line, reason) for line, reason in differences]


def test_entries_that_only_install_sh_takes() -> None:
    # A line end that only systemd knows splits the line in two, of which the second is the one compared.
    found = find_differences("A=1\rexport B=2\n")
    assert Difference(1, CR) in found


@PROPERTY
@given(file_bytes(b"A=", b"\nA=1\n", b"\nB='"))
def test_where_nothing_is_found_the_readers_agree(data: bytes) -> None:
    text = decode(data)
    if find_differences(text):
        return
    systemd = read_systemd(text).variables()
    assert read_install_sh(text).variables() == systemd
    assert read_systemd(text, comment_continues=True).variables() == systemd


@PROPERTY
@given(file_bytes(b"S3C/RET", b"=S3C/RET", b"\nS3C/RET=x\n", b"\nA='S3C/RET\n"))
def test_no_reason_shows_what_the_file_holds(data: bytes) -> None:
    text = decode(data)
    lines = text.count("\n") + 1
    for difference in find_differences(text):
        assert "S3C" not in difference.reason
        assert 1 <= difference.line <= lines

# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A value is written so that both readers read it, or refused; nothing that could be written is refused."""

from __future__ import annotations

import itertools
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_readers import encode, read_install_sh, read_systemd
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_values import (
    LONGEST_ASSIGNMENT_BYTES,
    assignment_line,
    read_managed_lines,
    text_of,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.tests.unit.properties import PROPERTY, file_bytes
from hypothesis import given
from hypothesis import strategies as st

ALIKE = "cannot be written so that all readers of the file read it alike"
DIFFERENT = "the two readers treat its quotes and spaces differently"


def read_by_all(line: str) -> t.Optional[t.Dict[str, str]]:
    """What every reader makes of a file of this one line; None where they differ or one of them has a reservation."""
    readings = [read_systemd(line + "\n"), read_systemd(line + "\n", comment_continues=True), read_install_sh(line + "\n")]
    if any(reading.refused or any(entry.problem for entry in reading.entries) for reading in readings):
        return None
    first = readings[0].variables()
    return first if all(reading.variables() == first for reading in readings) else None


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("", "X="),
        ("1", "X=1"),
        ("a b", "X=a b"),
        ("/opt/x:/y", "X=/opt/x:/y"),
        ("a#b;c$d", "X=a#b;c$d"),
        ("#a", "X=#a"),
        ("é\u2028", "X=é\u2028"),
        (" a", 'X=" a"'),
        ("a ", 'X="a "'),
        ("a\t", 'X="a\t"'),
        ("=", 'X="="'),
        ("a=", 'X="a="'),
        ("a=b=", "X=a=b="),
        ("-n", 'X="-n"'),
        ('"', "X='\"'"),
        ('"a"', "X='\"a\"'"),
        ('a"', "X='a\"'"),
        ('{"ram":2}', 'X={"ram":2}'),
        ("it's", "X=it's"),
        ("'a", None),
        ("a'", None),
        ("'a'", None),
        ("`", "X=`"),
        (" `", 'X=" `"'),
    ],
)
def test_the_plainest_quoting_is_taken(value: str, line: t.Optional[str]) -> None:
    if line is None:
        with pytest.raises(BadInputError, match=f"variables.X {ALIKE}: {DIFFERENT}"):
            assignment_line("X", value)
    else:
        assert assignment_line("X", value) == line


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("a\nb", "it holds a line break, at which install.sh ends it"),
        ("a\r", "it holds a line break, at which install.sh ends it"),
        ("a\\b", "its backslash is interpreted by echo and printf"),
        ("a&b", "its `&`, `<` or `]]>` is copied into XML without escaping, which breaks the property list"),
        ("a<b", "its `&`, `<` or `]]>` is copied into XML without escaping, which breaks the property list"),
        ("a\x01", "it holds a control character"),
        ("a\0", "it holds a NUL byte"),
    ],
)
def test_a_refusal_says_why_and_never_what(value: str, reason: str) -> None:
    with pytest.raises(BadInputError) as caught:
        assignment_line("X", "s3cr3t" + value, "secrets")
    assert str(caught.value) == f"secrets.X {ALIKE}: {reason}"


@pytest.mark.parametrize("value", ["\udcff", chr(0xD800), "\uffff"])
def test_what_is_no_utf8_is_refused(value: str) -> None:
    with pytest.raises(BadInputError, match=r"^variables.X is not valid UTF-8$"):
        assignment_line("X", value)


@pytest.mark.parametrize("name", ["", "1A", "A B", "A-B", "A\n", "é", "A="])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(BadInputError, match=r"^secrets: .* is not a name that a variable can have; use letters"):
        assignment_line(name, "1", "secrets")


def test_the_longest_assignment_that_execve_takes() -> None:
    # MAX_ARG_STRLEN is 131072 with the NUL at the end; é counts as two.
    assert LONGEST_ASSIGNMENT_BYTES == 131071
    fits = "é" * ((131071 - 3) // 2) + "x"[: (131071 - 3) % 2]
    assert len(encode("XX=" + fits)) == 131071
    assert assignment_line("XX", fits) == f"XX={fits}"
    with pytest.raises(BadInputError, match=r"^variables.XX is longer than the 131071 bytes that a program can be given$"):
        assignment_line("XX", fits + "x")


@PROPERTY
@given(st.one_of(st.text(max_size=12), st.text("\"'= \t#;\\a-n&$`%\n\r", max_size=8)))
def test_every_reader_reads_the_value_that_was_asked_for(value: str) -> None:
    try:
        line = assignment_line("X", value)
    except BadInputError:
        return
    assert read_by_all(line) == {"X": value}
    assert "\n" not in line
    assert read_managed_lines(line) == {"X": value}


def test_no_value_is_refused_that_some_quoting_represents() -> None:
    # All lines of up to five characters, whatever their quoting, that every reader reads alike.
    representable = set()
    for length in range(6):
        for characters in itertools.product("\"'= a\\", repeat=length):
            seen = read_by_all("X=" + "".join(characters)) if characters[:1] != ("\\",) else None
            if seen is not None and set(seen) == {"X"}:
                representable.add(seen["X"])
    assert len(representable) > 60
    for value in representable:
        assert read_by_all(assignment_line("X", value)) == {"X": value}


@pytest.mark.parametrize(("value", "text"), [("", ""), ("x", "x"), (0, "0"), (-12, "-12"), (10**20, "1" + "0" * 20)])
def test_text_of_strings_and_integers(value: t.Any, text: str) -> None:
    assert text_of("X", value, "variables") == text


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "a boolean"),
        (False, "a boolean"),
        (1.5, "a floating point number"),
        (None, "null"),
        (["s3cr3t"], "of type list"),
        ({"s3cr3t": 1}, "of type dict"),
        (b"s3cr3t", "of type bytes"),
    ],
)
def test_text_of_does_not_guess(value: t.Any, kind: str) -> None:
    with pytest.raises(BadInputError) as caught:
        text_of("X", value, "secrets")
    assert str(caught.value) == f"secrets.X is {kind}: put the text that GPUStack is to see in quotes"


@pytest.mark.parametrize(
    ("content", "variables"),
    [
        ("", {}),
        ("\n\n", {}),
        ('# comment = 1\n\nA=1\nB=a b\n#\nC="x="\n', {"A": "1", "B": "a b", "C": "x="}),
        ("A=1", {"A": "1"}),
        ("A=", {"A": ""}),
        ("# \\ inside\nA=1\n", {"A": "1"}),
    ],
)
def test_managed_lines_are_read(content: str, variables: t.Dict[str, str]) -> None:
    assert read_managed_lines(content) == variables


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("A=1\n \nB=2\n", "content: line 2 holds only spaces, which install.sh takes for a variable; make it empty"),
        ("A=1\n\t", "content: line 2 holds only spaces, which install.sh takes for a variable; make it empty"),
        ("# x\\\nA=1\n", "content: line 1 is a comment that ends with a backslash; systemd before 254 continues it"),
        ("#\r\nA=1\n", "content: line 1 holds a carriage return; use plain line ends"),
        ("\n# \0\n", "content: line 2 holds a NUL byte or is not valid UTF-8"),
        ("# \ud800\n", "content: line 1 holds a NUL byte or is not valid UTF-8"),
        ("A=\udcff\n", "content: line 1 holds a NUL byte or is not valid UTF-8"),
        ("A=1\r\n", "content: line 1 is not read alike by systemd and install.sh: it holds a control character"),
        ("A=1 \n", f"content: line 1 is not read alike by systemd and install.sh: {DIFFERENT}"),
        (
            "; x\n",
            "content: line 1 is not read alike by systemd and install.sh: it has no `=` and becomes a variable with an empty value",
        ),
        (
            "A=1\nexport B=1\n",
            (
                "content: line 2 is not read alike by systemd and install.sh:"
                " what stands before its `=` is not a name that a variable can have"
            ),
        ),
        ("A='x\ny'\n", f"content: line 1 is not read alike by systemd and install.sh: {DIFFERENT}"),
        ("A\n", "content: line 1 is not read alike by systemd and install.sh: it has no `=`"),
        ("A=1\n#\nA=1\n", "content: line 3 sets A a second time; keep one of the two"),
    ],
)
def test_managed_lines_that_are_refused(content: str, message: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read_managed_lines(content)
    assert str(caught.value) == message


@PROPERTY
@given(file_bytes(b"A=", b"B=1\n", b"# c\n"))
def test_what_managed_lines_say_is_what_every_reader_reads(data: bytes) -> None:
    content = data.decode("utf-8", "replace")
    try:
        variables = read_managed_lines(content)
    except BadInputError:
        return
    text = content + "\n"
    assert read_systemd(text).variables() == variables
    assert read_systemd(text, comment_continues=True).variables() == variables
    assert read_install_sh(text).variables() == variables
    assert not any(entry.problem for entry in read_install_sh(text).entries)

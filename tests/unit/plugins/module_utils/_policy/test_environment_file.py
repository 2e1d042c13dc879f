# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Merging loses nothing that is not ours, says the same thing twice, and leaves no spelling of what is to go."""

from __future__ import annotations

import time
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_readers import (
    INSTALL_SH,
    SYSTEMD,
    decode,
    encode,
    read,
    read_install_sh,
    read_systemd,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_file import (
    Change,
    Merge,
    find_variable,
    is_marker,
    merge,
    spelled_name,
    take_out,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.tests.unit.properties import PROPERTY, file_bytes
from hypothesis import given
from hypothesis import strategies as st

RESIDENCY = "GGML_METAL_NO_RESIDENCY"
BEGIN = "# BEGIN managed by metalfleet.gpustack"
END = "# END managed by metalfleet.gpustack"
BLOCK = ("# ours", "MANAGED_A=1", 'MANAGED_B="x "')
WRITTEN = '# ours\nMANAGED_A=1\nMANAGED_B="x "\n'
READERS = st.sampled_from([SYSTEMD, INSTALL_SH])
each_reader = pytest.mark.parametrize("reader", [SYSTEMD, INSTALL_SH])
MANAGED = (b"MANAGED_A=", b"\nMANAGED_B=7\n", b"\nexport MANAGED_A='", RESIDENCY.encode() + b"=", b"\n" + RESIDENCY.encode() + b"=1\n")
MARKERS = (BEGIN.encode() + b"\n", END.encode() + b"\n", BEGIN.encode() + b" (after 1 added line end)\n")


def merge_or_refusal(text: t.Optional[str], lines: t.Sequence[str], reader: str, remove: t.Collection[str] = ()) -> t.Union[Merge, str]:
    try:
        return merge(text, lines, reader, remove)
    except BadInputError as exc:
        return str(exc)


def opened_lines(text: str) -> t.Set[int]:
    """The lines of assignments that would take in whatever is written below them."""
    probe = text + "\n\nPROBE=1\n"
    readings = [read_systemd(probe), read_systemd(probe, comment_continues=True)]
    return {reading.entries[-1].line for reading in readings if reading.entries[-1].key != "PROBE"}


@PROPERTY
@given(st.one_of(st.none(), file_bytes()), READERS)
def test_a_block_that_is_given_up_gives_back_the_same_bytes(data: t.Optional[bytes], reader: str) -> None:
    text = None if data is None else decode(data)
    # Nothing to write: whatever the file is like, it is left alone.
    assert merge(text, (), reader, [RESIDENCY]).text == text
    merged = merge_or_refusal(text, BLOCK, reader, [RESIDENCY])
    if isinstance(merged, str):
        opened = opened_lines(text or "")
        if opened:
            assert any(merged.startswith(f"line {line} opens a quote that is never closed") for line in opened)
        else:
            assert reader == SYSTEMD
            assert read_systemd(text or "").refused or read_systemd(text or "", comment_continues=True).refused
        return
    assert not opened_lines(text or "")
    assert merged.text is not None
    assert merged.dropped == ()
    assert [change.name for change in merged.changes] == ["MANAGED_A", "MANAGED_B"]
    back = merge(merged.text, (), reader, [RESIDENCY])
    assert (back.text if back.text is None else encode(back.text)) == data
    assert back.dropped == ("MANAGED_A", "MANAGED_B")


@PROPERTY
@given(st.one_of(st.none(), file_bytes(*MANAGED, *MARKERS)), READERS, st.sampled_from([BLOCK, BLOCK[:2], ()]), st.booleans())
def test_a_second_merge_changes_nothing(data: t.Optional[bytes], reader: str, lines: t.Sequence[str], keep: bool) -> None:
    text = None if data is None else decode(data)
    try:
        once = merge(text, lines, reader, [RESIDENCY], keep)
    except BadInputError:
        return
    twice = merge(once.text, lines, reader, [RESIDENCY], keep)
    assert twice == Merge(once.text, (), (), ())


@PROPERTY
@given(file_bytes(*MANAGED, *MARKERS), READERS, st.sampled_from([BLOCK, ()]))
def test_what_is_to_go_is_gone_and_what_is_wanted_is_there(data: bytes, reader: str, lines: t.Sequence[str]) -> None:
    try:
        merged = merge(decode(data), lines, reader, [RESIDENCY])
    except BadInputError:
        return
    after = encode(merged.text or "")
    assert find_variable(after, RESIDENCY, reader) == []
    assert RESIDENCY not in read(decode(after), reader).variables()
    if not lines:
        return
    text = decode(after)
    readings = [read_install_sh(text), read_systemd(text), read_systemd(text, comment_continues=True)]
    for reading in readings:
        # In a file that systemd refuses (and install.sh does not) it is enough that the lines are lines.
        values = [(entry.key, entry.value) for entry in reading.entries if spelled_name(entry.key) == "MANAGED_A"]
        assert ("MANAGED_A", "1") in values
    for reading in readings if reader == SYSTEMD else readings[:1]:
        assert {"MANAGED_A": "1", "MANAGED_B": "x "}.items() <= reading.variables().items()


@PROPERTY
@given(file_bytes(*MANAGED), READERS)
def test_every_character_that_stays_stays_in_its_order(data: bytes, reader: str) -> None:
    text = decode(data)
    merged = merge(text, (), reader, [RESIDENCY])
    kept = iter(text)
    assert all(char in kept for char in merged.text or "")
    assert merged.text == take_out(text, [RESIDENCY], reader)[0]
    lines = [change.line for change in merged.changes]
    assert lines == sorted(lines, key=lambda line: line or 0)
    # The lines that changes name hold what was taken out, and others are whole.
    untouched = [line for number, line in enumerate(text.split("\n"), start=1) if number not in lines]
    if not any(mark in text for mark in "\"'\\\r"):
        assert (merged.text or "").split("\n") == untouched + ([""] if len(text.split("\n")) in lines else [])


# Lines as people write them, and whether they are taken out of a file that holds them.
TOUCHED = (
    f"{RESIDENCY}=1\n",
    f"{RESIDENCY}=0\n",
    f"{RESIDENCY}=\n",
    f"export {RESIDENCY}=1\n",
    f"  {RESIDENCY} = '1'\n",
    f"declare -x {RESIDENCY}=1\r\n",
    f"'{RESIDENCY}'=1\n",
    "MANAGED_A=2\n",
    "export MANAGED_B=3\n",
)
UNTOUCHED = (
    "\n",
    "# comment\n",
    f"#{RESIDENCY}=1\n",
    "OTHER=1\n",
    "OTHER = 'x y'  \r\n",
    "OTHER='x\u2028y\x0cz'\n",
    f"X{RESIDENCY}=1\n",
    f"{RESIDENCY}_X=1\n",
    f"OTHER={RESIDENCY}=1\n",
    "MANAGED_AB=1\n",
    "nonsense\n",
    "ggml_metal_no_residency=1\n",
)


@PROPERTY
@given(st.lists(st.sampled_from(TOUCHED + UNTOUCHED)), READERS, st.booleans())
def test_lines_of_others_stay_and_only_they(lines: t.List[str], reader: str, newline_at_end: bool) -> None:
    text = "".join(lines)
    if not newline_at_end:
        text = text.rstrip("\n")
    kept = "".join(line for line in lines if line in UNTOUCHED)
    merged = merge(text, BLOCK, reader, [RESIDENCY])
    assert merged.text is not None
    head, _marker, tail = merged.text.partition(BEGIN)
    assert head.rstrip("\n") == kept.rstrip("\n")
    assert tail.endswith(f"\n{WRITTEN}{END}\n")
    assert {line: change.action for change in merged.changes for line in [change.line] if line} == {
        number: "taken_over" if "MANAGED" in line else "removed" for number, line in enumerate(lines, start=1) if line in TOUCHED
    }
    if newline_at_end:
        assert head == kept
        assert merge(merged.text, (), reader, [RESIDENCY]).text == kept


@pytest.mark.parametrize(
    ("text", "merged"),
    [
        (None, f"{BEGIN} (new file)\n{WRITTEN}{END}\n"),
        ("", f"{BEGIN}\n{WRITTEN}{END}\n"),
        ("A=1\n", f"A=1\n{BEGIN}\n{WRITTEN}{END}\n"),
        ("A=1", f"A=1\n{BEGIN} (after 1 added line end)\n{WRITTEN}{END}\n"),
        ("A=1\\", f"A=1\\\n\n{BEGIN} (after 2 added line ends)\n{WRITTEN}{END}\n"),
        ("A=1\\\n", f"A=1\\\n\n{BEGIN} (after 1 added line end)\n{WRITTEN}{END}\n"),
        ("#", f"#\n{BEGIN} (after 1 added line end)\n{WRITTEN}{END}\n"),
        ("# c\\\n", f"# c\\\n\n{BEGIN} (after 1 added line end)\n{WRITTEN}{END}\n"),
        ("A=1\r", f"A=1\r\n{BEGIN} (after 1 added line end)\n{WRITTEN}{END}\n"),
        ("  ", f"  \n{BEGIN} (after 1 added line end)\n{WRITTEN}{END}\n"),
        ("A=1\r\n", f"A=1\r\n{BEGIN}\n{WRITTEN}{END}\n"),
    ],
)
def test_where_the_block_goes(text: t.Optional[str], merged: str) -> None:
    for reader in (SYSTEMD, INSTALL_SH):
        assert merge(text, BLOCK, reader, []).text == merged
        assert merge(merged, BLOCK, reader, []) == Merge(merged, (), (), ())
        assert merge(merged, (), reader, []).text == text


@each_reader
def test_the_block_stays_where_it_is(reader: str) -> None:
    text = f"A=1\n{BEGIN}\nMANAGED_A=0\nMANAGED_C=1\n{END}\nMANAGED_B=5\nB=2\n"
    assert merge(text, BLOCK, reader, []) == Merge(
        f"A=1\n{BEGIN}\n{WRITTEN}{END}\nB=2\n",
        (
            Change("removed", "MANAGED_C"),
            Change("set", "MANAGED_A"),
            Change("set", "MANAGED_B"),
            Change("taken_over", "MANAGED_B", 6),
        ),
        ("MANAGED_C",),
        (),
    )


@each_reader
def test_lines_above_the_block_go_and_it_moves_up(reader: str) -> None:
    text = f"{RESIDENCY}=1\nA=1\n{BEGIN}\n{WRITTEN}{END}\nB=2\n{RESIDENCY}=0\n"
    assert merge(text, BLOCK, reader, [RESIDENCY]) == Merge(
        f"A=1\n{BEGIN}\n{WRITTEN}{END}\nB=2\n", (Change("removed", RESIDENCY, 1), Change("removed", RESIDENCY, 9)), (), ()
    )


def test_an_assignment_around_the_block_is_taken_out_around_it() -> None:
    # Somebody put quotes above and below the block.
    text = f"A=1\n{RESIDENCY}='\n{BEGIN}\n{WRITTEN}{END}\n'\nB=2\n"
    merged = merge(text, BLOCK, SYSTEMD, [RESIDENCY])
    assert merged.text == f"A=1\n{BEGIN}\n{WRITTEN}{END}\nB=2\n"
    assert merged.changes == (Change("removed", RESIDENCY, 2),)


@each_reader
def test_a_line_written_below_a_block_after_an_unfinished_line_stays_a_line(reader: str) -> None:
    block = merge("A=1", BLOCK, reader, []).text
    assert block is not None
    for line in (f"{RESIDENCY}=1\n", "B=2\n"):
        assert (find_variable(encode(block + line), RESIDENCY, reader) != []) is (RESIDENCY in line)
        kept = "" if RESIDENCY in line else line
        given_up = merge(block + line, (), reader, [RESIDENCY])
        assert given_up.text == "A=1\n" + kept
        again = merge(block + line, BLOCK, reader, [RESIDENCY])
        assert again.text == f"A=1\n{BEGIN}\n{WRITTEN}{END}\n{kept}"
        assert merge(again.text, BLOCK, reader, [RESIDENCY]) == Merge(again.text, (), (), ())


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"MANAGED_A=\r{BEGIN}\nB=1\n", "B=1\n"),
        (f"{BEGIN}\rMANAGED_A=1\n\n{END}\rMANAGED_A=1\n\nB=1\n", "B=1\n"),
        (f"B=1\nC=1\nMANAGED_A=\r{END}\n{RESIDENCY}=1\n", "B=1\nC=1\n"),
        # What systemd takes for a part of a value stays, though install.sh does not.
        (f"B='\n{RESIDENCY}=1\n'\nMANAGED_A=\r{END}\n", f"B='\n{RESIDENCY}=1\n'\n"),
    ],
)
def test_a_line_that_becomes_a_marker_goes_too(text: str, kept: str) -> None:
    merged = merge(text, BLOCK, SYSTEMD, [RESIDENCY])
    assert "MANAGED_A" in [change.name for change in merged.changes if change.action == "taken_over"]
    assert merged.text == f"{kept}{BEGIN}\n{WRITTEN}{END}\n"
    assert merge(merged.text, BLOCK, SYSTEMD, [RESIDENCY]) == Merge(merged.text, (), (), ())


def test_line_ends_that_somebody_took_away_are_not_taken_away_again() -> None:
    text = f"A=1{BEGIN} (after 1 added line end)\nB=1\n"
    assert merge(text, (), SYSTEMD, []).text == text
    edited = f"A=\\\\\n{BEGIN} (after 2 added line ends)\n{WRITTEN}{END}\n"
    assert merge(edited, (), SYSTEMD, []).text == "A=\\\\\n"


@each_reader
def test_a_new_file_is_ours_to_remove_unless_somebody_wrote_into_it(reader: str) -> None:
    made = merge(None, BLOCK, reader, []).text
    assert made is not None
    assert merge(made, (), reader, []).text is None
    assert merge("A=1\n" + made, (), reader, []).text == "A=1\n"
    assert merge(made + "A=1\n", (), reader, []).text == "A=1\n"
    assert merge(f"{RESIDENCY}=1\n" + made, (), reader, [RESIDENCY]).text is None
    assert merge("", (), reader, []).text == ""
    assert merge(None, (), reader, []) == Merge(None, (), (), ())


@each_reader
def test_unmanaged_lines_go_when_asked(reader: str) -> None:
    text = f"A=1\n\n{RESIDENCY}=1\n  # c\n{BEGIN}\nMANAGED_A=1\n{END}\n \nB=2"
    merged = merge(text, BLOCK, reader, [RESIDENCY], keep_unmanaged=False)
    assert merged.text == f"{BEGIN}\n{WRITTEN}{END}\n"
    assert merged.changes == (
        Change("set", "MANAGED_B"),
        Change("removed", RESIDENCY, 3),
        Change("removed", "(a line that is not ours)", 1),
        Change("removed", "(a line that is not ours)", 4),
        Change("removed", "(a line that is not ours)", 9),
    )
    assert merge(text, (), reader, [RESIDENCY], keep_unmanaged=False).text == ""


@pytest.mark.parametrize(
    ("text", "kept", "warnings"),
    [
        (f"A=1\n{END}\nB=2\n", "A=1\nB=2\n", [("ends", 2)]),
        (f"A=1\n{BEGIN}\nB=2\n", "A=1\nB=2\n", [("begins", 2)]),
        (f"{BEGIN}\nA=1\n{BEGIN}\nMANAGED_A=0\n{END}\n{END}\nB=2\n", "A=1\n|B=2\n", [("begins", 1), ("ends", 6)]),
        (f"{BEGIN}\nB=2\n", "B=2\n", [("begins", 1)]),
        (f"A=1\n{BEGIN}\n{END}\nB=1\n{BEGIN}\nMANAGED_B=1\n{END}\nC=1\n", "A=1\n|B=1\nC=1\n", []),
    ],
)
@each_reader
def test_markers_without_the_other_end(text: str, kept: str, warnings: t.List[t.Tuple[str, int]], reader: str) -> None:
    merged = merge(text, BLOCK, reader, [])
    head, _bar, tail = kept.partition("|")
    assert merged.text == f"{head}{BEGIN}\n{WRITTEN}{END}\n{tail}"
    assert merged.warnings == tuple(
        f"line {line} {verb} a managed block that has no other end; the marker is taken out and the lines around it are kept"
        for verb, line in warnings
    )
    given_up = merge(text, (), reader, [])
    assert given_up.text == head + tail


def test_two_blocks_become_one() -> None:
    text = f"{BEGIN} (new file)\nOLD=1\n{END}\n{BEGIN}\nMANAGED_A=1\n{END}\n"
    merged = merge(text, BLOCK, SYSTEMD, [])
    assert merged.changes == (Change("removed", "OLD"), Change("set", "MANAGED_B"))
    assert merged.text == f"{BEGIN} (new file)\n{WRITTEN}{END}\n"
    assert merge(text, (), SYSTEMD, []).text is None


@pytest.mark.parametrize("line", [f"{END}X\n", f"{END}\x0c\n", f"{BEGIN}\x0b\n"])
def test_what_only_looks_like_a_marker_stays(line: str) -> None:
    assert merge(line, (), SYSTEMD, []) == Merge(line, (), (), ())


@each_reader
def test_changes_are_told_in_the_order_of_the_file(reader: str) -> None:
    text = f"MANAGED_B=1\nMANAGED_A=1\n{RESIDENCY}=1\n"
    lines = [change.line for change in merge(text, BLOCK, reader, [RESIDENCY]).changes]
    assert lines == [None, None, 1, 2, 3]


def test_lines_are_numbered_as_in_the_file_whatever_was_cut() -> None:
    text = f"{BEGIN}\nA=1\n{RESIDENCY}=1\n{BEGIN}\n{END}\nB=1\n{RESIDENCY}=2\n{BEGIN}\nC=1\n{RESIDENCY}=3\n"
    assert merge(text, (), SYSTEMD, [RESIDENCY]).changes == tuple(Change("removed", RESIDENCY, line) for line in (3, 7, 10))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (BEGIN, True),
        (END, True),
        (BEGIN + " (new file)", True),
        (BEGIN + " (after 1 added line end)", True),
        (BEGIN + " (after 2 added line ends)\r", True),
        (END + " \t", True),
        (BEGIN + " (after x added line ends)", False),
        (BEGIN + " s3cr3t", False),
        (END + " (new file)", False),
        ("#" + END, False),
        (" " + BEGIN, False),
        ("", False),
    ],
)
def test_markers(line: str, expected: bool) -> None:
    assert is_marker(line) is expected


@pytest.mark.parametrize(
    "key",
    [
        RESIDENCY,
        f" {RESIDENCY} ",
        f"export {RESIDENCY}",
        f"  export\t{RESIDENCY}",
        f"declare -x {RESIDENCY}",
        f"declare -g -x {RESIDENCY}",
        f"typeset -x {RESIDENCY}",
        f"readonly {RESIDENCY}",
        f"setenv {RESIDENCY}",
        f"set -gx {RESIDENCY}",
        f"env {RESIDENCY}",
        f"export env {RESIDENCY}",
        f'"{RESIDENCY}"',
        f"'{RESIDENCY}",
        f'"{RESIDENCY}',
        f"{RESIDENCY}+",
        f"\ufeff{RESIDENCY}",
        f"\ufeff export {RESIDENCY}",
        f"\xa0{RESIDENCY}",
    ],
)
def test_spellings(key: str) -> None:
    assert spelled_name(key) == RESIDENCY


@pytest.mark.parametrize(
    "key",
    [
        f"#{RESIDENCY}",
        f"; {RESIDENCY}",
        f"X{RESIDENCY}",
        f"{RESIDENCY}X",
        f"X {RESIDENCY}",
        f"{RESIDENCY}-",
        f"exports {RESIDENCY}",
        f"export{RESIDENCY}",
        f"{RESIDENCY}++",
        f"-x {RESIDENCY}",
        f"1{RESIDENCY}",
        RESIDENCY.lower(),
        "",
    ],
)
def test_what_is_no_spelling(key: str) -> None:
    assert spelled_name(key) != RESIDENCY


def test_a_key_that_means_no_name_stays_what_it_is() -> None:
    assert spelled_name("a b") == "a b"
    assert spelled_name("export -x") == "export -x"


@pytest.mark.parametrize("key", ["export " * 3000 + "!", "export " + "-x " * 3000 + "!", " " * 20000 + "!", "a" * 20000 + "!"])
def test_no_key_takes_long(key: str) -> None:
    started = time.process_time()
    assert spelled_name(key) == key
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("text", "systemd", "install_sh"),
    [
        (f"A=1\n{RESIDENCY}=1\n\nexport {RESIDENCY}=\n", [2, 4], [2, 4]),
        (f"# {RESIDENCY}=1\n", [], []),
        (f"; {RESIDENCY}=1\n", [], []),
        (f"A='\n{RESIDENCY}=1\n'\n", [], [2]),
        (f"A=1\r{RESIDENCY}=1\n", [1], []),
        (f"{RESIDENCY}\n", [1], [1]),
        # Only one of systemd's versions sees it; which one runs is not known.
        (f"# c\\\n{RESIDENCY}=1\n", [2], [2]),
        (f"# c\\\nA='\n{RESIDENCY}=1\n", [3], [3]),
        # In files that systemd refuses as a whole.
        (f"\udcff=1\n{RESIDENCY}=1\n", [2], [2]),
        (f"\0\n{RESIDENCY}=1\n", [2], [2]),
    ],
)
def test_where_a_variable_stands(text: str, systemd: t.List[int], install_sh: t.List[int]) -> None:
    assert find_variable(encode(text), RESIDENCY, SYSTEMD) == systemd
    assert find_variable(encode(text), RESIDENCY, INSTALL_SH) == install_sh
    for reader in (SYSTEMD, INSTALL_SH):
        assert find_variable(encode(take_out(text, [RESIDENCY], reader)[0]), RESIDENCY, reader) == []


def test_take_out_minds_no_block() -> None:
    text = f"A=1\n{BEGIN} (new file)\n{RESIDENCY}=1\nMANAGED_A=1\n{END}\n{RESIDENCY}=2"
    for reader in (SYSTEMD, INSTALL_SH):
        after, changes = take_out(text, {RESIDENCY}, reader)
        assert after == f"A=1\n{BEGIN} (new file)\nMANAGED_A=1\n{END}\n"
        assert changes == (Change("removed", RESIDENCY, 3), Change("removed", RESIDENCY, 6))
        assert take_out(after, {RESIDENCY}, reader) == (after, ())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A='\n", 1),
        ('A=1\n\nB="x\nC=1\n', 3),
        ("A=1\nB='x' 'y\nC=1\n", 2),
        ("# c\\\nA='\nB='\nC=1\n", 3),
    ],
)
def test_an_open_quote_is_refused_only_where_something_has_to_be_written(text: str, line: int) -> None:
    for reader in (SYSTEMD, INSTALL_SH):
        with pytest.raises(BadInputError) as caught:
            merge(text, BLOCK, reader, [])
        assert str(caught.value) == (
            f"line {line} opens a quote that is never closed, so systemd would take every line below for its value: close the quote"
        )
        assert merge(text, (), reader, []).text == text
        replaced = merge(text, BLOCK, reader, [], keep_unmanaged=False)
        assert replaced.text == f"{BEGIN}\n{WRITTEN}{END}\n"


@pytest.mark.parametrize(("text", "reason"), [("A=1\nB=\udcff\n", "line 2 is not valid UTF-8"), ("A=\0\n", "it holds a NUL byte")])
def test_a_file_that_systemd_ignores_is_refused_where_it_is_to_read_it(text: str, reason: str) -> None:
    with pytest.raises(BadInputError) as caught:
        merge(text, BLOCK, SYSTEMD, [])
    assert str(caught.value) == f"{reason}, so systemd would ignore the whole file with all that we write: correct it"
    assert merge(text, (), SYSTEMD, []).text == text
    assert merge(text, BLOCK, INSTALL_SH, []).text == f"{text}{BEGIN}\n{WRITTEN}{END}\n"


def test_a_value_of_ours_that_was_edited_is_set_again() -> None:
    text = f'{BEGIN}\nMANAGED_A=1\nMANAGED_B="y "\nOTHER=1\n{END}\n'
    merged = merge(text, BLOCK, SYSTEMD, [])
    assert merged.changes == (Change("removed", "OTHER"), Change("set", "MANAGED_B"))
    assert merged.dropped == ("OTHER",)

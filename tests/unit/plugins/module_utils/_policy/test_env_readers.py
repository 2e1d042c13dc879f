# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two readers' models: systemd's by cases (real systemd: tests/integration/readers), install.sh's against real shells too."""

from __future__ import annotations

import pathlib
import plistlib
import random
import shutil
import subprocess
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_readers import (
    INSTALL_SH,
    SYSTEMD,
    Entry,
    Reading,
    decode,
    encode,
    is_valid_name,
    is_valid_utf8,
    read,
    read_install_sh,
    read_systemd,
)
from ansible_collections.metalfleet.gpustack.tests.unit.properties import PROPERTY, file_bytes
from hypothesis import given
from hypothesis import strategies as st

NO_NAME = "what stands before its `=` is not a name that a variable can have"


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("", {}),
        ("A=1\n", {"A": "1"}),
        ("A=1", {"A": "1"}),
        ("A=\n", {"A": ""}),
        ("A=", {"A": ""}),
        ("A", {}),
        ("A\nB=1\n", {"B": "1"}),
        ("A\rB=1\n", {"B": "1"}),
        ("\n\n  A=1\n", {"A": "1"}),
        ("\t A \t=\t 1 \t\n", {"A": "1"}),
        (" A = 1 2  3 \n", {"A": "1 2  3"}),
        ("A=1 \t", {"A": "1"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("A=x=y=\n", {"A": "x=y="}),
        ("=1\n", {}),
        ("=1=2\n", {}),
        # Comments: only before a key, and never after a value.
        ("# A=1\n;B=1\n  # C=1\nD=1 # no comment\n", {"D": "1 # no comment"}),
        ("A=#1\n", {"A": "#1"}),
        ("A#=1\n", {}),
        # Line ends.
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=1\rB=2\n", {"A": "1", "B": "2"}),
        ("# x\rA=1\n", {"A": "1"}),
        # Quotes count only at the start of a value and right after one another.
        ('A="x y"\n', {"A": "x y"}),
        ("A='x y'\n", {"A": "x y"}),
        ("A=x\"y\"'z'\n", {"A": "x\"y\"'z'"}),
        ("A='x'\"y\"z\n", {"A": "xyz"}),
        ("A='x' 'y'\n", {"A": "xy"}),
        ("A='x'  y z \n", {"A": "xy z"}),
        ("A=' x '\n", {"A": " x "}),
        ("A=' x '", {"A": " x "}),
        ("A=''\n", {"A": ""}),
        ("A='x\ny'\nB=1\n", {"A": "x\ny", "B": "1"}),
        ('A="x\r\ny"\n', {"A": "x\r\ny"}),
        ("A='x\nB=1\n", {"A": "x\nB=1\n"}),
        ("A='x  ", {"A": "x  "}),
        ('A="x\nB=1\n', {"A": "x\nB=1\n"}),
        # Backslashes.
        ("A=x\\y\n", {"A": "xy"}),
        ("A=\\x\n", {"A": "x"}),
        ("A=\\\\x\n", {"A": "\\x"}),
        ("A=x\\\ny\nB=1\n", {"A": "xy", "B": "1"}),
        ("A=x\\\r\nB=1\n", {"A": "x", "B": "1"}),
        ("A=\\\n'x'\n", {"A": "'x'"}),
        ("A=x\\", {"A": "x"}),
        ("A=x \\", {"A": "x "}),
        ("A=x\\ \n", {"A": "x "}),
        ("A=x\\  \n", {"A": "x "}),
        ("A=x  \\y\n", {"A": "x  y"}),
        ("A='x\\y'\n", {"A": "x\\y"}),
        ("A='x\\'\n", {"A": "x\\"}),
        ('A="\\"\\\\\\`\\$\\x\\\'"\n', {"A": "\"\\`$\\x\\'"}),
        ('A="x\\\ny"\n', {"A": "xy"}),
        ('A="x\\\ry"\n', {"A": "x\\\ry"}),
        ('A="x\\', {"A": "x"}),
        ('A="x\\"\nB=1\n', {"A": 'x"\nB=1\n'}),
        # Names.
        ("export A=1\n", {}),
        ("1A=1\n_A1z=1\na=2\n", {"_A1z": "1", "a": "2"}),
        ("A.B=1\nÄ=1\n", {}),
        ("\ufeffA=1\n", {}),
        ("A\tB=1\n", {}),
        ("A\x0c=1\n", {}),
        ('A="\\X"\n', {"A": "\\X"}),
        # What only looks like a line end.
        ("A=1\x0cB=2\u2028C=3\x85\x1c\n", {"A": "1\x0cB=2\u2028C=3\x85\x1c"}),
        ("A=\x0c1\x0b \n", {"A": "\x0c1\x0b"}),
        ("\x0cA=1\n", {}),
        ("A=\x01\x7f\n", {"A": "\x01\x7f"}),
    ],
)
@pytest.mark.parametrize("comment_continues", [True, False])
def test_systemd_reads_variables(text: str, variables: t.Dict[str, str], comment_continues: bool) -> None:
    assert read_systemd(text, comment_continues).variables() == variables


@pytest.mark.parametrize(
    ("text", "before_254", "since_254"),
    [
        ("# x\\\nA=1\nB=2\n", {"B": "2"}, {"A": "1", "B": "2"}),
        ("; x\\\nA=1\nB=2\n", {"B": "2"}, {"A": "1", "B": "2"}),
        ("# x\\\rA=1\rB=2\n", {"B": "2"}, {"A": "1", "B": "2"}),
        ("# x\\\r\nA=1\n", {"A": "1"}, {"A": "1"}),
        ("# x\\\\\nA=1\n", {"A": "1"}, {"A": "1"}),
        ("# x\\y\nA=1\n", {"A": "1"}, {"A": "1"}),
        ("# x\\\n\nA=1\n", {"A": "1"}, {"A": "1"}),
        ("# x\\", {}, {}),
    ],
)
def test_a_backslash_continues_a_comment_before_254(text: str, before_254: t.Dict[str, str], since_254: t.Dict[str, str]) -> None:
    assert read_systemd(text, comment_continues=True).variables() == before_254
    assert read_systemd(text).variables() == since_254


def test_entries_say_where_they_stand_and_why_they_are_not_taken() -> None:
    text = "# c\n\n  A=1\r\nB='x\ny' \nC\r\nD=1\rexport E=1\nF"
    assert read_systemd(text).entries == (
        Entry(3, 5, 12, "A", "1"),
        Entry(4, 12, 21, "B", "x\ny"),
        Entry(6, 21, 24, "C", None, "it has no `=`"),
        Entry(7, 24, 28, "D", "1"),
        Entry(7, 28, 39, "export E", "1", NO_NAME),
        Entry(8, 39, 40, "F", None, "it has no `=`"),
    )
    assert text[24:28] == "D=1\r"
    assert read_systemd("# x\\\nA=1\n").entries == (Entry(2, 5, 9, "A", "1"),)


@pytest.mark.parametrize(
    ("data", "refused"),
    [
        (b"A=1\nB=\xff\n", "line 2 is not valid UTF-8"),
        (b"A=1\n\nB\xff=1\n", "line 3 is not valid UTF-8"),
        (b"A=\xed\xa0\x80\n", "line 1 is not valid UTF-8"),
        (b"A=\xc0\xaf\n", "line 1 is not valid UTF-8"),
        (b"A=\xef\xbf\xbe\n", "line 1 is not valid UTF-8"),
        (b"A=1\n#\0\n", "it holds a NUL byte"),
        (b"A=\xff\0\n", "it holds a NUL byte"),
    ],
)
def test_systemd_refuses_a_whole_file(data: bytes, refused: str) -> None:
    reading = read_systemd(decode(data))
    assert reading.refused == refused
    assert reading.variables() == {}
    # Whoever cleans the file up must still find what stands in it.
    assert "A" in [entry.key for entry in reading.entries] or b"A=1" not in data


@pytest.mark.parametrize(
    ("data", "variables"),
    [
        (b"A=1\n# \xff\n;\xff\n", {"A": "1"}),
        (b"A=1\n\xff\n", {"A": "1"}),
        # The two bytes of one character on both sides of what systemd takes out.
        (b"A='\xc3'\xa9\n", {"A": "é"}),
        (b'A="\xc3""\xa9"\n', {"A": "é"}),
        (b"A=\xc3\\\n\xa9\n", {"A": "é"}),
        (b"A=\xc3\\\xa9\n", {"A": "é"}),
    ],
)
def test_systemd_minds_broken_utf8_only_in_what_it_takes(data: bytes, variables: t.Dict[str, str]) -> None:
    assert read_systemd(decode(data)).variables() == variables


@pytest.mark.parametrize("code", [0xD7FF, 0xE000, 0xFDCF, 0xFDF0, 0xFFFD, 0x10000, 0x1FFFD, 0x10FFFD, 0x20, 0xFE])
def test_characters_that_utf8_may_hold(code: int) -> None:
    assert is_valid_utf8("a" + chr(code) + "b")


@pytest.mark.parametrize("code", [0xD800, 0xDC80, 0xDFFF, 0xFDD0, 0xFDEF, 0xFFFE, 0xFFFF, 0x1FFFE, 0x1FFFF, 0x10FFFE, 0x10FFFF])
def test_characters_that_it_may_not_hold(code: int) -> None:
    assert not is_valid_utf8("a" + chr(code) + "b")


@pytest.mark.parametrize(
    ("name", "valid"), [("A", True), ("_", True), ("a_1Z", True), ("", False), ("1", False), ("A\n", False), ("A-", False), ("é", False)]
)
def test_names(name: str, valid: bool) -> None:
    assert is_valid_name(name) is valid


@given(st.binary())
def test_decode_loses_nothing(data: bytes) -> None:
    assert encode(decode(data)) == data


@PROPERTY
@given(file_bytes(b"A=", b"A='"), st.booleans())
def test_systemd_entries_are_pieces_of_the_file_in_order(data: bytes, comment_continues: bool) -> None:
    text = decode(data)
    end = 0
    for entry in read_systemd(text, comment_continues).entries:
        assert end <= entry.start < entry.end <= len(text)
        assert entry.start == 0 or text[entry.start - 1] in "\n\r"
        assert entry.end == len(text) or text[entry.end - 1] in "\n\r"
        assert entry.line == text[: entry.start].count("\n") + 1
        end = entry.end


@PROPERTY
@given(file_bytes(b"A=", b"A='"), st.booleans(), st.data())
def test_an_entry_taken_out_leaves_the_others_as_they_were(data: bytes, comment_continues: bool, draw: st.DataObject) -> None:
    text = decode(data)
    entries = read_systemd(text, comment_continues).entries
    if not entries:
        return
    index = draw.draw(st.integers(0, len(entries) - 1))
    entry = entries[index]
    after = read_systemd(text[: entry.start] + text[entry.end :], comment_continues).entries
    assert [(e.key, e.value) for e in after] == [(e.key, e.value) for e in entries if e is not entry]


def test_read_names_its_reader() -> None:
    assert read("A= 1\n", SYSTEMD).variables() == {"A": "1"}
    assert read("A= 1\n", INSTALL_SH).variables() == {"A": " 1"}


def test_a_refused_reading_has_no_variables() -> None:
    entry = Entry(1, 0, 4, "A", "1")
    assert Reading((entry,), "why").variables() == {}
    assert Reading((entry, Entry(2, 4, 8, "A", "2"), Entry(3, 8, 12, "A", "3", "why"), Entry(4, 12, 14, "B", None))).variables() == {
        "A": "2"
    }


XML = "its `&`, `<` or `]]>` is copied into XML without escaping, which breaks the property list"
BACKSLASH = "its backslash is interpreted by echo and printf"
CONTROL = "it holds a control character"
OPTION = "echo takes it for an option"
NO_EQUALS = "it has no `=` and becomes a variable with an empty value"


@pytest.mark.parametrize(
    ("line", "key", "value", "problem"),
    [
        ("A=1", "A", "1", ""),
        ("A=", "A", "", ""),
        ("A= 1 ", "A", " 1 ", ""),
        ("A=1 # x", "A", "1 # x", ""),
        ("A=x=y", "A", "x=y", ""),
        ("A=x=", "A", "x", ""),
        ("A==", "A", "", ""),
        ("A=x=y=", "A", "x=y=", ""),
        ("A=x==", "A", "x==", ""),
        ("A==x", "A", "=x", ""),
        ('A="x"', "A", "x", ""),
        ("A='x'", "A", "x", ""),
        ("A='\"x\"'", "A", '"x"', ""),
        ("A=\"'x'\"", "A", "x", ""),
        ('A=""x""', "A", '"x"', ""),
        ('A=x"', "A", "x", ""),
        ("A='x", "A", "x", ""),
        ('A="', "A", "", ""),
        ("A='", "A", "", ""),
        ('A="x="', "A", "x=", ""),
        ("A=\t", "A", "\t", ""),
        ("A=\xa0>]]", "A", "\xa0>]]", ""),
        ("A=-x", "A", "-x", ""),
        ("A=- n", "A", "- n", ""),
        ('A="-n"', "A", "-n", ""),
        ("A=-", "A", "-", ""),
        ("A=-n", "A", "-n", OPTION),
        ("A=-enE", "A", "-enE", OPTION),
        ("A=-nx", "A", "-nx", ""),
        ("A=x\\y", "A", "x\\y", BACKSLASH),
        ("A=a&b", "A", "a&b", XML),
        ("A=a<b", "A", "a<b", XML),
        ("A=a]]>b", "A", "a]]>b", XML),
        ("A=\udcff", "A", "\udcff", "it is not valid UTF-8"),
        ("A=\uffff", "A", "\uffff", "it is not valid UTF-8"),
        ("A=1\r", "A", "1\r", CONTROL),
        ("A=\0", "A", "\0", CONTROL),
        ("A=\x1f", "A", "\x1f", CONTROL),
        ("A=\x7f", "A", "\x7f", CONTROL),
        ("A=\x80", "A", "\x80", CONTROL),
        ("A=\x9f", "A", "\x9f", CONTROL),
        ("A=~\x20\xa0", "A", "~ \xa0", ""),
        ("export A=1", "export A", "1", NO_NAME),
        (" A=1", " A", "1", NO_NAME),
        (" # A=1", " # A", "1", NO_NAME),
        (";A=1", ";A", "1", NO_NAME),
        ("=1", "", "1", NO_NAME),
        ("A", "A", None, NO_EQUALS),
        (" ", " ", None, NO_EQUALS),
    ],
)
def test_install_sh_reads_a_line(line: str, key: str, value: t.Optional[str], problem: str) -> None:
    text = f"#\n\n{line}\n"
    assert read_install_sh(text).entries == (Entry(3, 3, len(text), key, value, problem),)


def test_install_sh_loses_a_last_line_without_line_end() -> None:
    assert read_install_sh("A=1\nB=&").entries == (Entry(1, 0, 4, "A", "1"), Entry(2, 4, 7, "B", "&", "the last line has no line end"))


def test_install_sh_skips_comments_and_empty_lines() -> None:
    assert read_install_sh("#A=1\n\n##\n").entries == ()


# What install.sh does to a file, in words of our own: fields cut at `=`, one quote of each kind off each end by sed after
# echo, and printf %b over all of it.
COPYING = r"""
for file in "$1"/*.env; do
    copied=
    while IFS='=' read -r name content; do
        case $name in '' | '#'*) continue ;; esac
        bare=$(echo "$content" | sed "s/^\"//; s/\"\$//; s/^'//; s/'\$//")
        copied="$copied<key>$name</key><string>$bare</string>\n"
    done < "$file"
    printf '%b' "$copied" > "$file.xml"
done
"""
SHELLS = [shell for shell in ("bash", "dash") if shutil.which(shell)]


def copy_by_shell(shell: str, folder: pathlib.Path, files: t.Sequence[bytes]) -> t.List[bytes]:
    for number, data in enumerate(files):
        (folder / f"{number:04d}.env").write_bytes(data)
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    subprocess.run([shell, "-c", COPYING, shell, str(folder)], env=environment, check=True, timeout=120)
    return [(folder / f"{number:04d}.env.xml").read_bytes() for number in range(len(files))]


def parse_copied(xml: bytes) -> t.Any:
    return plistlib.loads(b'<?xml version="1.0" encoding="UTF-8"?><plist version="1.0"><dict>' + xml + b"</dict></plist>")


def sound_files(count: int) -> t.List[str]:
    """Files from a fixed seed, less the lines that read_install_sh says it cannot answer for."""
    rng = random.Random(1907)
    # Chosen so that each rule for values meets every other.
    pieces = [
        "=",
        "=",
        '"',
        '"',
        "'",
        "'",
        " ",
        "\t",
        "x",
        "y",
        "-n",
        "-",
        "#",
        ";",
        "$x",
        "`",
        "$(x)",
        "%s",
        "*",
        "~",
        "]]",
        ">",
        "é",
        "\u2028",
        "!",
    ]
    files = []
    for _file in range(count):
        lines = []
        for _line in range(rng.randrange(1, 5)):
            start = rng.choice(["A=", "B=", "C=", "_d1=", "A=", "# ", "#A=", ""])
            text = start + "".join(rng.choices(pieces, k=rng.randrange(0, 7))) + "\n"
            if not any(entry.problem for entry in read_install_sh(text).entries):
                lines.append(text)
        files.append("".join(lines))
    return files


@pytest.mark.parametrize("shell", SHELLS)
def test_real_shells_copy_what_the_model_says(shell: str, tmp_path: pathlib.Path) -> None:
    files = sound_files(60)
    wanted = [read_install_sh(text).variables() for text in files]
    assert sum(map(len, wanted)) > 60
    copied = [parse_copied(xml) for xml in copy_by_shell(shell, tmp_path, [encode(text) for text in files])]
    assert copied == wanted


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "line", [b"A=x", b"A=&\n", b"A=<\n", b"A=]]>\n", b"A\n", b" \n", b"export A=1\n", b" A=1\n", b"A=1\r\n", b"A=\x7f\\c\n", b"A=\x01\n"]
)
def test_real_shells_or_plists_spoil_what_the_model_says_they_do(shell: str, line: bytes, tmp_path: pathlib.Path) -> None:
    entry = read_install_sh(decode(line)).entries[0]
    assert entry.problem
    (xml,) = copy_by_shell(shell, tmp_path, [line])
    try:
        copied = parse_copied(xml)
    except Exception:
        copied = None
    assert copied != {entry.key: entry.value} or not is_valid_name(entry.key)


@pytest.mark.parametrize("line", [b"A=-n\n", b"A=-e\n", b"A=-En\n", b"A=a\\nb\n", b"A=a\\\\b\n", b"A=\\101\n", b"A=\\cx\n"])
def test_some_shell_spoils_options_and_backslashes(line: bytes, tmp_path: pathlib.Path) -> None:
    entry = read_install_sh(decode(line)).entries[0]
    assert entry.problem in (OPTION, BACKSLASH)
    copies = []
    for shell in SHELLS:
        folder = tmp_path / shell
        folder.mkdir()
        copies.append(copy_by_shell(shell, folder, [line])[0])
    assert any(f"<string>{entry.value}</string>".encode() not in xml for xml in copies)

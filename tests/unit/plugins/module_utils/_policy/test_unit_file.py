# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.unit_file import (
    assignments,
    find_variable,
    split_words,
    strip_variable,
)
from hypothesis import given, settings
from hypothesis import strategies as st

NAME = "GGML_METAL_NO_RESIDENCY"
SYSTEMD = pathlib.Path("/lib/systemd/systemd")


def service(text: str) -> str:
    return f"[Service]\n{text}"


def test_a_whole_unit(fixtures_dir):
    before = (fixtures_dir / "services" / "synthetic_gpustack.service").read_text()
    after = (fixtures_dir / "services" / "synthetic_gpustack_stripped.service").read_text()
    assert strip_variable(before, NAME) == (after, (8, 9, 12, 15, 16))
    assert strip_variable(after, NAME) == (after, ())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # The only word: the line goes, because an empty Environment= would take back those before it.
        (f"Environment={NAME}=1\nNext=1\n", "Next=1\n"),
        (f"Environment={NAME}=1", ""),
        (f"Environment={NAME}", ""),
        (f" Environment = {NAME}=1 {NAME}=2\n", ""),
        (f"PassEnvironment={NAME}\n", ""),
        # With others, wherever it stands.
        (f"Environment={NAME}=1 A=1\n", "Environment=A=1\n"),
        (f"Environment=A=1 {NAME}=1\n", "Environment=A=1\n"),
        (f"Environment=A=1   {NAME}=1  \n", "Environment=A=1\n"),
        (f"Environment=A=1  {NAME}=1\tB=2\n", "Environment=A=1  B=2\n"),
        # A blank that systemd does not know as one belongs to the word.
        (f"Environment={NAME}=1 \u00a0A=1\n", "Environment=\u00a0A=1\n"),
        (f"Environment=A=1\u00a0 {NAME}=1\n", "Environment=A=1\u00a0\n"),
        (f"Environment=A=1 \\\n{NAME}=1 \u00a0\n", "Environment=A=1 \\\n\u00a0\n"),
        (f"Environment=A=1\u00a0\\\n{NAME}=1\n", "Environment=A=1\u00a0\n"),
        # Every spelling of the word.
        (f'Environment="{NAME}=a b" A=1\n', "Environment=A=1\n"),
        (f"Environment='{NAME}=' A=1\n", "Environment=A=1\n"),
        (f'Environment={NAME}="a b"c A=1\n', "Environment=A=1\n"),
        ("Environment=\\x47GML_METAL\\u005fNO\\137RESIDENCY=1 A=1\n", "Environment=A=1\n"),
        (f'PassEnvironment="{NAME}" A\n', "PassEnvironment=A\n"),
        (f"PassEnvironment=\\{NAME} A\n", "PassEnvironment=A\n"),
        # Line ends are kept as they are.
        (f"Environment={NAME}=1 A=1\r\nNext=1\r\n", "Environment=A=1\r\nNext=1\r\n"),
        (f"Environment=A=1 {NAME}=1", "Environment=A=1"),
        # Continued lines.
        (f"Environment=A=1 \\\n  {NAME}=1 \\\n  B=2\n", "Environment=A=1 \\\n  B=2\n"),
        (f"Environment=A=1 \\\n  {NAME}=1\nNext=1\n", "Environment=A=1\nNext=1\n"),
        (f"Environment=\\\n  {NAME}=1\nNext=1\n", "Next=1\n"),
        (f"Environment={NAME}=1 \\\n  B=2\n", "Environment=\\\n  B=2\n"),
        (f"Environment=A=1 {NAME}=1\\\nB=2\n", "Environment=A=1 \\\nB=2\n"),
        (f'Environment="{NAME}=1 \\\n  2" B=2\n', "Environment=\\\nB=2\n"),
        (f'Environment="{NAME}=1 \\\n" B=2\n', "Environment=\\\nB=2\n"),
        (f"Environment=A=1 \\\n\\\n{NAME}=1\n", "Environment=A=1 \\\n\n"),
        (f"Environment=A=1 \\\n{NAME}=1 \\", "Environment=A=1 \\\n"),
        # Comments between continued lines are no part of them, and stay.
        (f"Environment=A=1 \\\n# why\n  {NAME}=1\nNext=1\n", "Environment=A=1\n# why\nNext=1\n"),
        (f"Environment={NAME}=1 \\\n; why\n\nNext=1\n", "; why\nNext=1\n"),
        (f"Environment={NAME}=1 \\\n; why\n # and\n\nNext=1\n", "; why\n # and\nNext=1\n"),
        # A word that only stood behind it must not become a comment.
        (f"Environment=A=1 \\\n{NAME}=1 #B=2 C=3\n", 'Environment=A=1 \\\n"" #B=2 C=3\n'),
        (f"Environment=A=1 \\\n  {NAME}=1 #B=2 C=3\n", 'Environment=A=1 \\\n""   #B=2 C=3\n'),
        (f"Environment=A=1 \\\n{NAME}=1 \x0c#B=2\n", "Environment=A=1 \\\n\x0c#B=2\n"),
        # A line on which anything but a backslash is left stays.
        (f"Environment=A=1 \\\n{NAME}=1 X\n", "Environment=A=1 \\\nX\n"),
        # What only looks like a section in part is none, and what systemd does not know as a blank is a part of the line.
        (f"ExecCondition=/usr/bin/[ -e /a ]\nEnvironment={NAME}=1\n", "ExecCondition=/usr/bin/[ -e /a ]\n"),
        (f"\x0c[Unit]\nEnvironment={NAME}=1\n", "\x0c[Unit]\n"),
        # What systemd ignores behind a broken quote or escape stays.
        (f'Environment={NAME}=1 "A=1\n', 'Environment="A=1\n'),
    ],
)
def test_it_is_taken_out(before, after):
    text, lines = strip_variable(service(before), NAME)
    assert text == service(after)
    assert lines
    assert find_variable(text, NAME) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"Environment={NAME}=1\n",
        f"[Unit]\nEnvironment={NAME}=1\n",
        f"[Service]\n[Install]\nEnvironment={NAME}=1\n",
        f"[ Service ]\nEnvironment={NAME}=1\n",
        f"[Service]\n#Environment={NAME}=1\n",
        f"[Service]\n ; Environment={NAME}=1\n",
        f"[Service]\n# \\\nExecStart=/bin/env {NAME}=1\n",
        f"[Service]\nenvironment={NAME}=1\n",
        f"[Service]\n\x0cEnvironment={NAME}=1\n",
        f"[Service]\nUnsetEnvironment={NAME}\n",
        f"[Service]\nEnvironment=X{NAME}=1 {NAME}X=1 A={NAME}=1\n",
        f'[Service]\nEnvironment="A=1 {NAME}=1"\n',
        f'[Service]\nEnvironment="{NAME}=1\n',
        f"[Service]\nEnvironment=\\q {NAME}=1\n",
        f"[Service]\nEnvironment=\\x00 {NAME}=1\n",
        f"[Service]\nEnvironment=\\400 {NAME}=1\n",
        f"[Service]\nEnvironment=A=1 \\\\\n{NAME}=1\n",
        f"[Service]\nEnvironment\n{NAME}=1\n",
        "[Service]\nEnvironment=\nPassEnvironment=\n",
    ],
)
def test_it_is_not_there(text):
    assert strip_variable(text, NAME) == (text, ())


def test_a_byte_order_mark_hides_nothing():
    assert strip_variable(f"\ufeff[Service]\nEnvironment={NAME}=1\n", NAME) == ("\ufeff[Service]\n", (2,))


def test_bytes_that_are_no_text_are_kept():
    text = service(f"ExecStart=/bin/\udcff\nEnvironment={NAME}=1\n")
    assert strip_variable(text, NAME) == (service("ExecStart=/bin/\udcff\n"), (3,))


def test_assignments_of_some_keys_in_their_order():
    text = service("A = x \\\n# no\n  y \nB=1\nA=\nC=2\n[Other]\nA=3\n")
    assert [(found.key, found.value) for found in assignments(text, ("A", "C"))] == [("A", "x    y"), ("A", ""), ("C", "2")]
    assert list(assignments(text, ())) == []
    (found,) = assignments(service("A = \u00a0\\x41 \u00a0 \n"), ("A",))
    assert found.value == "\u00a0\\x41 \u00a0"
    assert [word.text for word in found.words] == ["\u00a0A", "\u00a0"]


def test_the_line_is_where_the_word_begins():
    assert find_variable(service(f"Environment=A=1 \\\n# why\n\\\n'{NAME}=1 \\\n2' \\\n{NAME}=3\n"), NAME) == (5, 7)


def test_words_are_unescaped_as_in_c():
    words, is_sound = split_words(r"""a\tb "c\"\s\x41\u00e9\U0001F600\101" 'd'e \\ """)
    assert is_sound
    assert [word.text for word in words] == ["a\tb", 'c" Aé😀A', "de", "\\"]
    assert [word.text for word in split_words(r"\x01 \u20ac \U0010ffff \377")[0]] == ["\x01", "€", "\U0010ffff", "ÿ"]
    assert [word.text for word in split_words(r"\A\n", unescape=False)[0]] == ["An"]


@pytest.mark.parametrize("value", ["a 'b", 'a "', "a \\", "a \\z", "a \\x4", "a \\U00110000", "a \\000"])
def test_what_is_broken_ends_the_value(value):
    words, is_sound = split_words(value)
    assert not is_sound
    assert [word.text for word in words] == ["a"]


class _Counted(str):
    """Text that counts the characters of it that are copied."""

    copied = 0

    def _taken(self, text: str) -> _Counted:
        type(self).copied += len(text)
        return _Counted(text)

    def __getitem__(self, key: t.Any) -> str:
        return self._taken(super().__getitem__(key))

    def __add__(self, other: str) -> str:
        return self._taken(super().__add__(other))

    def lstrip(self, chars: str | None = None, /) -> str:
        return self._taken(super().lstrip(chars))

    def rstrip(self, chars: str | None = None, /) -> str:
        return self._taken(super().rstrip(chars))


def _work(function: t.Callable[[str], t.Any], text: str) -> int:
    """Calls made and characters copied; the same in each run, unlike a time."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    _Counted.copied = 0
    counted = _Counted(text)
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function(counted)
    finally:
        sys.setprofile(before)
    return calls + _Counted.copied


_LONG: t.Mapping[str, t.Callable[[int], str]] = {
    "lines that go on": lambda many: "Environment=" + "A=1 \\\n" * many + "V=1\n",
    "the variable on each of them": lambda many: "Environment=" + "V=1 \\\n" * many + "A=1\n",
    "comments between them": lambda many: "Environment=" + "V=1 \\\n# why\n" * many + "A=1\n",
    "words in one line": lambda many: f"Environment={'V=1 A=1 ' * many}\n",
    "a word over all lines": lambda many: 'Environment="V=' + "1 \\\n" * many + '" A=1\n',
    "assignments": lambda many: "Environment=V=1 A=1\n" * many,
}


@pytest.mark.parametrize("text_of", _LONG.values(), ids=_LONG)
@pytest.mark.parametrize("function", [lambda text: strip_variable(text, "V"), split_words], ids=["strip", "split"])
def test_a_file_that_is_twice_as_long_takes_twice_the_work(function, text_of):
    once, twice = (_work(function, service(text_of(many))) for many in (100, 200))
    assert twice < once * 2.2


PIECES = (
    ["V=1", "V", "A=1", '"B=x y"', '"V=a b"', "'V= '", "\\x56=1", "C=\\t", "#c=1", ";d", "D=\\", 'X="q', 'V="a"b', "E=é", "F=%%"]
    + [
        " ",
        "  ",
        "\t",
        " \\\n",
        "\\\n",
        "\n",
        "\nEnvironment=",
        "\nPassEnvironment=",
        "\n# Environment=V=1\n",
        "\\\n#cm V\n",
        "\\\n  ; x\\\n",
    ]
    + ["\n[Service]\n", "\n[Unit]\n", "\r\n", "\n\r", "=", "\nEnvironment =", "\\q", "\\\\", "VX=2", "\nEnvironment=V=1 ", " V=2 \\\n"]
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map(lambda pieces: service("ExecStart=/bin/true\nEnvironment=" + "".join(pieces)))


@given(TEXTS)
def test_nothing_else_changes(text):
    after, lines = strip_variable(text, "V")
    assert find_variable(after, "V") == ()
    assert bool(lines) == (after != text)
    assert [line for line in after.splitlines() if line.lstrip()[:1] in ("#", ";")] == [
        line for line in text.splitlines() if line.lstrip()[:1] in ("#", ";")
    ]


def _read_by_systemd(units: t.Mapping[str, str]) -> t.Dict[str, t.List[str]]:
    """What systemd itself makes of units: `systemd --test` loads them as a user's manager would and prints them."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in units.items():
            pathlib.Path(folder, f"{name}.service").write_bytes(text.encode())
        wants = " ".join(f"{name}.service" for name in units)
        pathlib.Path(folder, "all.target").write_text(f"[Unit]\nWants={wants}\n")
        os.chmod(folder, 0o777)
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "XDG_RUNTIME_DIR": folder, "SYSTEMD_UNIT_PATH": f"{folder}:"}
        environment["SYSTEMD_LOG_TARGET"] = "null"
        # It does not run tests as root.
        as_user = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        argv = [*as_user, str(SYSTEMD), "--test", "--user", "--unit=all.target", "--no-pager"]
        output = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=60).stdout
    found: t.Dict[str, t.List[str]] = {}
    for part in re.split(r"(?m)^\t-> Unit ", output.decode("utf-8", "surrogateescape"))[1:]:
        name = part.partition(":")[0]
        if name.endswith(".service"):
            found[name[: -len(".service")]] = re.findall(r"(?m)^\t\t((?:Pass)?Environment: .*)$", part)
    return found


@pytest.mark.skipif(
    not SYSTEMD.exists() or (os.geteuid() == 0 and shutil.which("setpriv") is None),
    reason="systemd itself is not installed here, or setpriv is missing",
)
def test_systemd_reads_the_same_but_for_the_variable():
    texts: t.List[str] = []

    @settings(max_examples=150, database=None, derandomize=True)
    @given(TEXTS)
    def collect(text: str) -> None:
        texts.append(text)

    collect()
    before = _read_by_systemd({f"u{number}": text for number, text in enumerate(texts)})
    after = _read_by_systemd({f"u{number}": strip_variable(text, "V")[0] for number, text in enumerate(texts)})
    assert set(before) == set(after) >= {f"u{number}" for number in range(len(texts))}
    is_ours = re.compile(r"Environment: V=|PassEnvironment: V\Z")
    for number, text in enumerate(texts):
        expected = [line for line in before[f"u{number}"] if not is_ours.match(line)]
        assert after[f"u{number}"] == expected, text
        assert bool(find_variable(text, "V")) or expected == before[f"u{number}"], text

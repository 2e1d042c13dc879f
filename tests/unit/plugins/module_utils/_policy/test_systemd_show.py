# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.systemd_show import (
    UNPRINTABLE,
    EnvironmentFile,
    parse_environment,
    parse_show,
    split_quoted,
)


@pytest.fixture
def services(fixtures_dir):
    return fixtures_dir / "services"


def test_a_unit_of_today(services):
    shown = parse_show((services / "synthetic_systemctl_show_v252.txt").read_text())
    assert shown.text("ActiveState") == "active"
    assert shown.number("MainPID") == 4711
    assert shown.words("DropInPaths") == (
        "/etc/systemd/system/gpustack.service.d/10-a.conf",
        "/run/systemd/system/gpustack.service.d/20 b.conf",
    )
    assert shown.words("Environment") == ("A=1", "B=x y", 'C=q"u$`\\', "D=two\nlines", "E=é", "F=bell\a\x01")
    assert shown.environment_files() == (
        EnvironmentFile("/etc/default/gpustack", optional=True),
        EnvironmentFile("/etc/gpustack with blank.env", optional=False),
    )


def test_a_unit_of_an_old_systemd(services):
    shown = parse_show((services / "synthetic_systemctl_show_v239.txt").read_text())
    assert shown.text("LoadState") == "not-found"
    assert shown.words("Environment") == ("A=1", UNPRINTABLE)
    assert shown.words("DropInPaths") == ()
    assert shown.environment_files() == (EnvironmentFile("/etc/default/gpustack", optional=True),)


def test_what_is_not_shown():
    shown = parse_show("Running in chroot, ignoring request: show\nMainPID=[not set]\nodd key=1\n")
    assert shown.text("LoadState") == ""
    assert shown.words("DropInPaths") == ()
    assert shown.environment_files() == ()
    assert shown.number("MainPID") is None
    assert shown.number("ExecMainStatus") is None
    assert set(shown.values) == {"MainPID"}


def test_the_managers_environment(services):
    assert parse_environment((services / "synthetic_systemctl_show_environment_v252.txt").read_text()) == {
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        "EMPTY": "",
        "TITLE": "two words",
        "QUOTES": 'it\'s "so"',
        "LINES": "one\ntwo\ttab\\",
        "EQUATION": "a=b",
        "OPEN": '"not closed',
    }
    assert parse_environment("no variable\n=nameless\n") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  a   b ", ["a", "b"]),
        ('a""', ["a"]),
        ('"" b', ["", "b"]),
        ("$'a b' c", ["a b", "c"]),
        ("a $'b c'", ["a", "b c"]),
        ("DISPLAY=:0 XAUTHORITY=/x", ["DISPLAY=:0", "XAUTHORITY=/x"]),
        ("$HOME $", ["$HOME", "$"]),
        ('"open', ['"open']),
        ("$'open", ["$'open"]),
        (r'"\303\251"', ["Ã©"]),
        (r'"\x"', ["x"]),
        ('"a\\\nb"', ["a\nb"]),
    ],
)
def test_quotes(text, words):
    assert split_quoted(text) == words

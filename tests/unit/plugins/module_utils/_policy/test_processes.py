# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.processes import (
    Process,
    has_variable,
    parse_age,
    parse_cmdline,
    parse_environ,
    parse_etime,
    parse_ps,
    parse_ps_commands,
    parse_stat_ppid,
    with_descendants,
)

NAME = "GGML_METAL_NO_RESIDENCY"


def test_ps():
    text = "    1     0 /sbin/launchd\n  812     1 /opt/gpustack/bin/python3 start --token x\n  900   812 (zombie)\n  901   812\nnonsense\n"
    assert parse_ps(text) == [
        Process(1, 0, "/sbin/launchd"),
        Process(812, 1, "/opt/gpustack/bin/python3 start --token x"),
        Process(900, 812, "(zombie)"),
        Process(901, 812, ""),
    ]


def test_commands_by_pid():
    text = "lost\n  812 /bin/a b\n 1000 /bin/c A=1\n2 B=3\n1001 /bin/d\nsecond line\n\nthird\n1002\n"
    assert parse_ps_commands(text) == {812: "/bin/a b", 1000: "/bin/c A=1", 2: "B=3", 1001: "/bin/d\nsecond line\nthird", 1002: ""}


@pytest.mark.parametrize(
    ("text", "ppid"),
    [
        ("812 (gpustack) S 1 812 812 0", 1),
        ("900 (a) b (c) R 812 1 1", 812),
        ("900 (two\nlines) R 812 1 1", 812),
        ("", None),
        ("900 (x", None),
    ],
)
def test_the_parent_from_stat(text, ppid):
    assert parse_stat_ppid(text) == ppid


# proc(5): after the state 18 fields come before the start, of which the parent is the first.
STAT = "812 (a b) S 1 " + "0 " * 17 + "123456 9 9\n"


@pytest.mark.parametrize(
    ("stat", "uptime", "age"),
    [
        (STAT, "2000.50 1999.00\n", 2000.5 - 1234.56),
        (STAT, "2000.50", 2000.5 - 1234.56),
        (STAT, "", None),
        (STAT, "now 1\n", None),
        ("", "2000.50 1999.00\n", None),
        ("812 (a b) S 1 " + "0 " * 17, "2000.50 1.0\n", None),
        (STAT.replace("123456", "x"), "2000.50 1.0\n", None),
    ],
)
def test_the_age_of_a_process_on_linux(stat, uptime, age):
    found = parse_age(stat, uptime)
    assert found is None if age is None else found == pytest.approx(age)


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("00:00\n", 0.0),
        ("   00:09\n", 9.0),
        ("01:02", 62.0),
        ("10:01:02\n", 36062.0),
        ("03-10:01:02\n", 295262.0),
        ("", None),
        ("9", None),
        ("1:2:3:4", None),
        ("1-02:03", None),
        ("Sat Nov 22 21:47:19 2025", None),
    ],
)
def test_the_age_of_a_process_on_a_mac(text, age):
    assert parse_etime(text) == age


def test_cmdline():
    assert parse_cmdline(b"/bin/llama-box\0--port\080\0") == "/bin/llama-box --port 80"
    assert parse_cmdline(b"") == ""
    assert parse_cmdline(b"\xff\0") == "\udcff"


def test_environ():
    data = b"PATH=/usr/bin\0GGML_METAL_NO_RESIDENCY=\0A=b=c\0LINES=1\n2\0BYTE=\xff\0A=second\0noise\0=x\0"
    assert parse_environ(data) == {"PATH": "/usr/bin", NAME: "", "A": "b=c", "LINES": "1\n2", "BYTE": "\udcff"}


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"gpustack_worker\0\0\0", b"tack start --a=1\0\0"])
def test_an_environment_that_was_written_over_is_not_seen(data):
    assert parse_environ(data) is None


COMMAND = "/var/lib/gpustack/bin/llama-box --port 40001"


@pytest.mark.parametrize(
    ("with_environment", "command", "expected"),
    [
        (f"{COMMAND} PATH=/usr/bin {NAME}=1 HOME=/", COMMAND, True),
        (f"{COMMAND} {NAME}=", COMMAND, True),
        (f"{COMMAND} {NAME}=a=b", COMMAND, True),
        (f"{COMMAND} PATH=/usr/bin HOME=/var/root", COMMAND, False),
        (f"{COMMAND} XPC_SERVICE_NAME=ai.gpustack", COMMAND, False),
        (f"{COMMAND} PATH=/usr/bin {NAME}X=1 X{NAME}=1", COMMAND, False),
        # Hidden, or a title over it.
        (COMMAND, COMMAND, None),
        ("gpustack_worker", "gpustack_worker", None),
        ("", "", None),
        # An argument is not the variable.
        (f"/usr/bin/env {NAME}=1 sleep PATH=/usr/bin", f"/usr/bin/env {NAME}=1 sleep", False),
        (f"/usr/bin/env {NAME}=1 sleep", f"/usr/bin/env {NAME}=1 sleep", None),
        # The process changed between the two looks.
        (f"/bin/new PATH=/usr/bin {NAME}=1", "/bin/old", True),
        (f"/bin/new {NAME}=1", "/bin/old --port 40001 --host 127.0.0.1", True),
    ],
)
def test_a_variable_behind_the_command(with_environment, command, expected):
    assert has_variable(with_environment, command, NAME) is expected


def test_descendants():
    table = [
        Process(1, 0, "init"),
        Process(30, 20, "c"),
        Process(20, 10, "b"),
        Process(10, 1, "a"),
        Process(11, 1, "other"),
        Process(21, 10, "d"),
    ]
    assert [process.command for process in with_descendants(table, 10)] == ["a", "b", "d", "c"]
    assert with_descendants(table, 99) == []
    assert [process.pid for process in with_descendants([Process(10, 20, "a"), Process(20, 10, "b")], 10)] == [10, 20]
    assert [process.pid for process in with_descendants([Process(0, 0, "kernel"), Process(1, 0, "launchd")], 0)] == [0, 1]


# More digits than int() takes, and more than any pid or time has.
@pytest.mark.parametrize("number", ["1" * 5000, "1" * 11])
def test_numbers_of_absurd_length_are_no_numbers(number):
    assert parse_ps(f"{number} 1 x\n1 {number} y\n2 1 z") == [Process(2, 1, "z")]
    assert parse_ps_commands(f"7 sh -c x\n{number} y") == {7: f"sh -c x\n{number} y"}
    assert parse_stat_ppid(f"1 (x) S {number} 1") is None
    for text in (f"{number}:00", f"00:{number}", f"{number}:00:00", f"{number}-00:00:00"):
        assert parse_etime(text) is None

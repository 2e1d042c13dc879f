# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult, Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.processes import (
    process_environment,
    service_processes,
    variable_in_process,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import CommandMissingError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.processes import Process
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost

NAME = "GGML_METAL_NO_RESIDENCY"
TABLE = ("ps", "-axww", "-o", "pid=,ppid=,command=")
PLAIN = ("ps", "-ww", "-o", "pid=,command=", "-p", "812,900,901,902")
WITH_ENVIRONMENT = ("ps", "-E", "-ww", "-o", "pid=,command=", "-p", "812,900,901,902")


def mac(commands):
    return MemoryHost(commands=commands)


def linux(files, unreadable=()):
    return MemoryHost(system="Linux", files=files, unreadable=unreadable)


def test_the_processes_of_a_service_on_a_mac():
    host = mac(
        commands={TABLE: CommandResult(0, "  1  0 /sbin/launchd\n812  1 gpustack start\n900 812 llama-box --port 1\n77 1 other\n", "")}
    )
    assert service_processes(host, 812) == [Process(812, 1, "gpustack start"), Process(900, 812, "llama-box --port 1")]


def test_a_ps_that_fails_is_told():
    with pytest.raises(HostError, match="ps failed \\(rc 1: no table\\)"):
        service_processes(mac(commands={TABLE: CommandResult(1, "", "no\ntable\n")}), 812)
    with pytest.raises(HostError, match="ps failed \\(rc 2: it said nothing\\)"):
        service_processes(mac(commands={TABLE: CommandResult(2, "", "")}), 812)
    with pytest.raises(CommandMissingError):
        service_processes(mac(commands={}), 812)


def test_the_processes_of_a_service_on_linux():
    host = linux(
        files={
            "/proc/1/stat": b"1 (systemd) S 0 1 1 0",
            "/proc/812/stat": b"812 (gpu (x) stack) S 1 812 812 0",
            "/proc/812/cmdline": b"gpustack\0start\0",
            "/proc/900/stat": b"900 (llama-box) S 812 812 812 0",
            "/proc/900/cmdline": b"llama-box\0",
            "/proc/901/stat": b"901 (going) S 812 812 812 0",
            "/proc/902/stat": b"nonsense",
            "/proc/903/cmdline": b"half there\0",
            "/proc/meminfo": b"",
        },
        unreadable=["/proc/901/cmdline"],
    )
    assert service_processes(host, 812) == [Process(812, 1, "gpustack start"), Process(900, 812, "llama-box")]
    assert service_processes(host, 813) == []


def test_the_environment_of_a_process_on_linux():
    host = linux(
        files={"/proc/1/environ": b"PATH=/bin\0GGML_METAL_NO_RESIDENCY=\0", "/proc/2/environ": b"a title\0\0", "/proc/3/environ": b""},
        unreadable=["/proc/3/environ"],
    )
    assert process_environment(host, 1).variables == {"PATH": "/bin", NAME: ""}
    for pid, reason in ((2, "shows no environment"), (3, "Permission denied"), (4, "does not run")):
        seen = process_environment(host, pid)
        assert seen.variables is None
        assert reason in seen.reason
        assert seen.variable(NAME).present is None
    assert variable_in_process(host, [1, 2, 3, 4], NAME) == {1: True, 2: None, 3: None, 4: None}
    assert variable_in_process(host, [1], "OTHER") == {1: False}


def test_the_environment_of_a_process_on_a_mac_cannot_be_told_apart():
    seen = process_environment(mac(commands={}), 1)
    assert (seen.variables, seen.complete) == (None, False)


def test_a_variable_in_processes_on_a_mac():
    host = mac(
        commands={
            # 902 has ended: ps shows the others and exits with 1.
            PLAIN: CommandResult(1, " 812 gpustack_worker\n 900 llama-box --port 1\n 901 llama-box --port 2\n", ""),
            WITH_ENVIRONMENT: CommandResult(
                1, f" 812 gpustack_worker\n 900 llama-box --port 1 PATH=/bin {NAME}=0\n 901 llama-box --port 2 PATH=/bin\n", ""
            ),
        }
    )
    assert variable_in_process(host, [812, 900, 901, 902], NAME) == {812: None, 900: True, 901: False, 902: None}
    assert variable_in_process(host, [], NAME) == {}


def test_a_mac_without_ps_knows_nothing():
    assert variable_in_process(mac(commands={}), [812], NAME) == {812: None}


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="this system has no /proc")
def test_a_real_process():
    program = "print(flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PATH": "/bin", NAME: "1"}
    )
    try:
        # The kernel tells the environment of a program a little later than Popen() tells that it was started.
        assert child.stdout is not None
        child.stdout.readline()
        host = Host()
        found = service_processes(host, os.getpid())
        assert found[0].pid == os.getpid()
        assert child.pid in [process.pid for process in found]
        assert variable_in_process(host, [child.pid], NAME) == {child.pid: True}
    finally:
        child.communicate(b"\n")

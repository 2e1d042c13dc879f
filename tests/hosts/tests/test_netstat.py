# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""netstat of a simulated Mac, and the collection's own reading of it and of ps."""

from __future__ import annotations

import importlib.util
import re
import sys
import types

from conftest import CHECKOUT, Host

CONNECTED = """
import socket, subprocess
here, there = socket.create_server(("127.0.0.1", 50052)), socket.create_server(("::1", 50053), family=socket.AF_INET6)
clients = [socket.create_connection(("127.0.0.1", 50052)), socket.create_connection(("::1", 50053))]
servers = [here.accept()[0], there.accept()[0]]
idle = socket.create_server(("", 50054), family=socket.AF_INET6, dualstack_ipv6=True)
print(subprocess.run(["/usr/sbin/netstat", "-an", "-p", "tcp"], capture_output=True, text=True, check=True).stdout, end="")
"""


def policy(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, CHECKOUT / "plugins" / "module_utils" / "_policy" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Data classes look themselves up there.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_netstat_shows_the_sockets_of_its_host(mac: Host) -> None:
    text = mac.sh("/usr/bin/python3 -", check=True, given=CONNECTED).stdout
    lines = text.splitlines()
    assert lines[0] == "Active Internet connections (including servers)"
    assert lines[1].rstrip() == "Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)"
    assert re.search(r"^tcp4       0      0  127\.0\.0\.1\.50052        127\.0\.0\.1\.\d+ +ESTABLISHED *$", text, re.MULTILINE)
    assert re.search(r"^tcp6       0      0  ::1\.50053              ::1\.\d+ +ESTABLISHED *$", text, re.MULTILINE)
    assert re.search(r"^tcp4       0      0  127\.0\.0\.1\.50052        \*\.\* +LISTEN *$", text, re.MULTILINE)
    assert re.search(r"^tcp46      0      0  \*\.50054                \*\.\* +LISTEN *$", text, re.MULTILINE)
    # That of the connection which asks is among them.
    found = policy("sockets").netstat_ports(text)
    assert {22, 50052, 50053} <= found
    assert 50054 not in found


def test_netstat_is_for_everybody_and_for_nothing_else(mac: Host) -> None:
    assert "ESTABLISHED" in mac.out("netstat -a -n -p tcp", user="fleet")
    for words in ("", "-an", "-rn", "-an -p udp", "-anb -p tcp"):
        done = mac.sh(f"netstat {words}")
        assert (done.returncode, done.stdout) == (64, "")
    assert mac.lines("calls.jsonl")[-1]["program"] == "netstat"


def test_the_age_of_a_process_is_understood(mac: Host) -> None:
    age = policy("processes").parse_etime
    first = age(mac.out("ps -o etime= -p 1"))
    assert first is not None
    assert 0.0 <= first < 3600.0
    # Whatever time zone a task is run in.
    assert abs(age(mac.out("TZ=Asia/Tokyo ps -o etime= -p 1")) - first) < 60.0
    assert age(mac.sh("ps -o etime= -p 99999").stdout) is None

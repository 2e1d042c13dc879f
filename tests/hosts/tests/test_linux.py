# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""A Linux host is a Debian with the real systemd."""

from __future__ import annotations

from conftest import Host, until

UNIT = """[Service]
EnvironmentFile=-/etc/default/example
ExecStart=/bin/sh -c 'echo started >> /var/log/example.log; exec sleep 1000'
Restart=always
RestartSec=0.1
[Install]
WantedBy=multi-user.target
"""


def test_systemd_is_up_and_nothing_failed(plain: Host) -> None:
    assert until(lambda: plain.sh("systemctl is-system-running").stdout) == "running\n"
    assert plain.out("ps -p 1 -o comm=; uname -s").split() == ["systemd", "Linux"]
    assert plain.out("systemctl --failed --no-legend") == ""


def test_services_drop_ins_and_set_environment(plain: Host) -> None:
    plain.put("/etc/systemd/system/example.service", UNIT)
    plain.put("/etc/default/example", "FROM_FILE=1\n")
    plain.sh("mkdir -p /etc/systemd/system/example.service.d", check=True)
    plain.put("/etc/systemd/system/example.service.d/more.conf", "[Service]\nEnvironment=FROM_DROP_IN=1\n")
    plain.sh("systemctl set-environment FROM_MANAGER=1 && systemctl daemon-reload && systemctl enable --now example", check=True)
    environment = plain.out("tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID example)/environ").split()
    assert {"FROM_FILE=1", "FROM_DROP_IN=1", "FROM_MANAGER=1"} <= set(environment)
    plain.sh("systemctl kill --signal KILL example", check=True)
    assert until(lambda: plain.out("cat /var/log/example.log") == "started\nstarted\n")
    plain.sh("systemctl disable --now example && systemctl unset-environment FROM_MANAGER", check=True)


def test_the_machine_is_out_of_reach(plain: Host) -> None:
    assert plain.sh("sysctl -w kernel.sysrq=0").returncode != 0
    assert plain.sh("sysctl -w net.ipv4.ip_forward=0").returncode == 0
    assert plain.out("sudo -n id -un", user="fleet") == "root\n"

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""sysctl, system_profiler, ps and the rest as a Mac has them, and what a Mac does not have."""

from __future__ import annotations

import json
import re
import typing as t

import pytest
from conftest import Host, Job, until

LINUX_ONLY = """systemctl journalctl ip ss apt apt-get dpkg sha256sum md5sum timeout flock setpriv nsenter unshare getent
nproc free lscpu useradd pgrep""".split()


def test_sysctl_prints_the_known_and_fails_for_the_unknown(mac: Host) -> None:
    done = mac.sh("sysctl hw.memsize no.such hw.model")
    assert (done.returncode, done.stdout) == (1, "hw.memsize: 8589934592\nhw.model: Macmini9,1\n")
    assert done.stderr == "sysctl: unknown oid 'no.such'\n"
    assert mac.out("sysctl -n hw.memsize") == "8589934592\n"


def test_sysctl_node_and_all(mac: Host) -> None:
    node = mac.out("sysctl hw.perflevel1").splitlines()
    assert "hw.perflevel1.name: Efficiency" in node
    assert all(line.startswith("hw.perflevel1.") for line in node)
    assert set(node) < set(mac.out("sysctl -a").splitlines())


def test_sysctl_sets_as_root_only(mac: Host) -> None:
    refused = mac.sh("sysctl iogpu.wired_limit_mb=1", user="fleet")
    assert (refused.returncode, refused.stderr) == (1, "sysctl: iogpu.wired_limit_mb: Operation not permitted\n")
    assert mac.out("sysctl iogpu.wired_limit_mb=14000") == "iogpu.wired_limit_mb: 0 -> 14000\n"
    assert mac.out("sysctl -w iogpu.wired_limit_mb=0; sysctl -n iogpu.wired_limit_mb") == "iogpu.wired_limit_mb: 14000 -> 0\n0\n"
    assert mac.sh("sysctl hw.memsize=1").returncode == 1


def test_system_profiler_noise_goes_to_stderr_since_macos_26(by_profile: t.Callable[[str], Host]) -> None:
    command = "system_profiler -json SPHardwareDataType SPDisplaysDataType"
    quiet, noisy = by_profile("m1_8").sh(command), by_profile("m4_max_128").sh(command)
    assert quiet.stderr == ""
    assert re.match(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} system_profiler\[\d+:\d+\] hw\.cpufamily: 0x[0-9a-f]+\n$", noisy.stderr)
    assert set(json.loads(noisy.stdout)) == {"SPHardwareDataType", "SPDisplaysDataType"}


def test_ps_formats(mac: Host) -> None:
    fields = mac.out("ps -ww -o pid=,ppid=,user=,etime=,comm=,args= -p 1").split()
    assert fields[:3] == ["1", "0", "root"]
    assert fields[4:] == ["/sbin/launchd", "/sbin/launchd"]
    assert re.match(r"^([0-9]+-)?([0-9]+:)?[0-9]{2}:[0-9]{2}$", fields[3])
    assert re.match(r"^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}$", mac.out("ps -o lstart= -p 1").strip())
    assert mac.out("ps -p 1 -o comm") == "COMM\n/sbin/launchd\n"
    assert len({mac.out("ps -o lstart= -p 1") for _time in range(3)}) == 1
    assert mac.sh("ps -o pid= -p 99999").returncode == 1


def test_ps_cuts_lines_unless_ww(job: Job) -> None:
    job.write("exec sleep 1000 " + " ".join(["0"] * 100))
    job.bootstrap()
    pid = job.shown("pid")
    assert len(job.mac.out(f"ps -o command= -p {pid}").rstrip("\n")) == 79
    assert len(job.mac.out(f"ps -ww -o command= -p {pid}").rstrip("\n")) > 200


@pytest.mark.parametrize("options", ["--no-headers", "-eo pid,cmd", "-o etimes= -p 1", "--pid 1", "-C launchd"])
def test_ps_refuses_what_only_linux_knows(mac: Host, options: str) -> None:
    if options == "-C launchd":  # -C is a flag there, so the word after it is no argument
        options = "-o pid= -C launchd"
    done = mac.sh(f"ps {options}")
    assert done.returncode == 1
    assert done.stderr.startswith("ps: ")
    assert done.stdout == ""


def test_ps_shows_the_environment_to_root_and_to_the_owner_only(job: Job) -> None:
    job.write(EnvironmentVariables={"GGML_METAL_NO_RESIDENCY": "1"})
    job.bootstrap()
    command = f"ps -E -ww -o command= -p {job.shown('pid')}"
    assert "GGML_METAL_NO_RESIDENCY=1" in job.mac.out(command).split()
    assert job.mac.out(command, user="fleet") == "sleep 1000\n"
    assert "GGML" not in job.mac.out(command.replace("-E ", ""))
    job.mac.put("/.sim/ps.json", json.dumps({"restricted": ["sleep 1000"]}))
    assert job.mac.out(command) == "sleep 1000\n"


def test_no_proc_no_sys_but_dev_fd(mac: Host) -> None:
    assert mac.out("ls -A /proc /sys").split() == ["/proc:", "/sys:"]
    assert mac.sh("ls /proc /sys", user="fleet").returncode != 0
    assert mac.sh("test -e /proc/self || test -e /proc/1/environ").returncode == 1
    for user in ("root", "fleet"):
        assert mac.out("cat <(echo through dev fd); echo x | cat /dev/stdin", user) == "through dev fd\nx\n"


def test_linux_tools_are_not_there(mac: Host) -> None:
    found = mac.sh(f"command -v {' '.join(LINUX_ONLY)}")
    assert (found.returncode, found.stdout) == (1, "")
    assert mac.out("echo $PATH") == "/usr/bin:/bin:/usr/sbin:/sbin\n"
    assert mac.sh("stat -c %a /etc/hosts").returncode == 1
    assert mac.out("stat -f '%Lp %Su:%Sg' /etc/hosts") == "644 root:wheel\n"


def test_file_system_of_a_mac(mac: Host) -> None:
    folders = "'/Library/LaunchDaemons' '/Library/Application Support' /Applications /opt/homebrew /private/etc /private/var /private/tmp"
    assert mac.sh(f"ls -d {folders}").returncode == 0
    assert mac.sh("test -e /etc/default || test -e /etc/os-release").returncode == 1
    assert mac.out("sw_vers -productVersion") == "15.5\n"
    assert "<string>15.5</string>" in mac.out("cat /System/Library/CoreServices/SystemVersion.plist")
    assert mac.out("cd ~ && pwd; id -gn; sudo -n id -un", user="fleet") == "/Users/fleet\nstaff\nroot\n"


def test_small_tools(mac: Host) -> None:
    assert "gateway: 10.231.0.1\n  interface: en0\n" in mac.out("route -n get default")
    assert re.search(r"inet 10\.231\.\d+\.\d+ netmask 0xffff0000 broadcast 10\.231\.255\.255", mac.out("ifconfig en0"))
    assert mac.out("vm_stat").startswith("Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free:")
    assert '"gpu-core-count" = 8' in mac.out("ioreg -r -c IOAccelerator")
    assert mac.sh("codesign -v /bin/ls").returncode == 1
    mac.sh("touch /tmp/x && xattr -w com.apple.quarantine q /tmp/x", check=True)
    assert mac.out("xattr -p com.apple.quarantine /tmp/x; xattr -d com.apple.quarantine /tmp/x; xattr /tmp/x") == "q\n"
    assert mac.sh("echo '<plist' > /tmp/x; plutil -lint /tmp/x").returncode == 1


def test_calls_are_recorded(mac: Host) -> None:
    before = len(mac.lines("calls.jsonl"))
    mac.sh("sysctl -n hw.model no.such; system_profiler -json SPHardwareDataType", user="fleet")
    new = mac.lines("calls.jsonl")[before:]
    assert [(call["program"], call["argv"], call["rc"], call["uid"]) for call in new] == [
        ("sysctl", ["-n", "hw.model", "no.such"], 1, 501),
        ("system_profiler", ["-json", "SPHardwareDataType"], 0, 501),
    ]


def test_calls_hang_as_they_are_told(mac: Host) -> None:
    mac.put("/.sim/hang.json", '{"launchctl": ["bootout"], "sysctl": []}')
    before = len(mac.lines("calls.jsonl"))
    try:
        mac.sh(
            "launchctl bootout system/no.such >/dev/null 2>&1 & echo $! >/tmp/hung; sysctl hw.model >/dev/null 2>&1 & echo $! >>/tmp/hung"
        )
        until(lambda: len(mac.lines("calls.jsonl")) == before + 2)
        assert mac.sh("launchctl print-disabled system").returncode == 0
        assert mac.sh("kill -9 $(cat /tmp/hung)").returncode == 0
    finally:
        mac.sh("rm -f /.sim/hang.json /tmp/hung", check=True)
    found = {(call["program"], call["argv"][0], call["rc"]) for call in mac.lines("calls.jsonl")[before:]}
    assert found == {("launchctl", "bootout", None), ("sysctl", "hw.model", None), ("launchctl", "print-disabled", 0)}


def test_orphans_are_reaped(mac: Host) -> None:
    mac.sh("(sleep 0.1 &) ; (sleep 0.1 &)", check=True)
    assert until(lambda: "Z" not in mac.out("ps -A -o stat=").split())

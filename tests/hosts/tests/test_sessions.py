# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""However a session ends, nothing of it is left: no process, namespace, mount, interface, cgroup or folder."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

import pytest
from conftest import CHECKOUT, Host, hosts, until

CACHE = pathlib.Path(os.environ.get("HOSTS_CACHE") or CHECKOUT / ".cache" / "hosts")
KINDS = ("pid", "net", "mnt")


def _namespaces(pid: str) -> t.Set[str]:
    found = set()
    for kind in KINDS:
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
        except OSError:
            continue
    return found


def _pids() -> t.List[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]


def _cgroups(name: str) -> t.List[str]:
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        tops = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
    return [path for top in tops for path, _folders, _files in os.walk(f"{top}/disposable-hosts") if f"-{name}" in path]


class Trace:
    """All kernel objects of a living session, to look for when it has ended."""

    def __init__(self, name: str) -> None:
        self.name, self.folder = name, CACHE / "sessions" / name
        keeper = json.loads((self.folder / "session.json").read_text(encoding="utf-8"))["keeper_pid"]
        ours = _namespaces("self")
        family = {str(keeper)}
        for _generation in range(6):
            family |= {pid for pid in _pids() if _parent(pid) in family}
        self.namespaces = set().union(*(_namespaces(pid) for pid in family)) - ours
        assert len(self.namespaces) >= 3, "a keeper has its own pid, net and mnt namespaces"
        assert _cgroups(name)

    def left(self) -> t.List[str]:
        found = [f"process {pid}" for pid in _pids() if _namespaces(pid) & self.namespaces]
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            found += [f"mount {line}" for line in mounts if str(self.folder) in line]
        found += [f"cgroup {path}" for path in _cgroups(self.name)]
        return found + ([f"folder {self.folder}"] if self.folder.exists() else [])


def _parent(pid: str) -> t.Optional[str]:
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()[1]


def _interfaces() -> t.Set[str]:
    lines = pathlib.Path("/proc/self/net/dev").read_text(encoding="utf-8").splitlines()[2:]
    return {line.split(":")[0].strip() for line in lines}


@pytest.fixture
def owner() -> t.Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    yield process
    process.kill()
    process.wait(timeout=10)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> t.Iterator[str]:
    one = f"end-{os.getpid()}-{abs(hash(request.node.name)) % 1000}"
    yield one
    hosts("stop", one, check=False)


def _boot(name: str, owner_pid: int) -> Trace:
    hosts("start", name, "--owner-pid", str(owner_pid))
    hosts("up", name, "one=mac:m1_8", "two=linux")
    return Trace(name)


def test_nothing_is_left_after_stop(name: str) -> None:
    before = _interfaces()
    trace = _boot(name, os.getpid())
    assert _interfaces() == before, "the machine's own network shows nothing of a session"
    assert trace.left(), "the check sees a living session"
    hosts("stop", name)
    assert trace.left() == []


def test_nothing_is_left_after_the_owner_is_killed(name: str, owner: subprocess.Popen[bytes]) -> None:
    trace = _boot(name, owner.pid)
    command = subprocess.Popen([str(CHECKOUT / "tests/hosts/hosts"), "run", name, "--", "sleep", "98765"])
    assert until(lambda: command.poll() is None and any(_command_line(pid) == "sleep\x0098765\x00" for pid in _pids()))
    owner.kill()
    assert until(lambda: not trace.left()), trace.left()
    assert command.wait(timeout=10) == 128 + signal.SIGKILL, "a command of the session ends with it"


def _command_line(pid: str) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("victim", ["supervisor", "keeper"])
def test_nothing_is_left_after_a_part_is_killed(name: str, victim: str) -> None:
    trace = _boot(name, os.getpid())
    keeper = json.loads((trace.folder / "session.json").read_text(encoding="utf-8"))["keeper_pid"]
    supervisor = _parent(_parent(str(keeper)) or "")
    os.kill(int(supervisor or 0) if victim == "supervisor" else keeper, signal.SIGKILL)
    kernel_objects = [f"folder {trace.folder}", *(f"cgroup {path}" for path in _cgroups(name))]
    assert until(lambda: set(trace.left()) <= set(kernel_objects)), trace.left()
    hosts("gc")
    assert trace.left() == []


def test_two_sessions_at_once_do_not_meet(name: str, owner: subprocess.Popen[bytes]) -> None:
    other = f"{name}-b"
    first, second = _boot(name, os.getpid()), _boot(other, owner.pid)
    try:
        one, two = Host(name, "one"), Host(other, "one")
        one.sh("touch /var/only-here", check=True)
        assert two.sh("test -e /var/only-here").returncode == 1
        assert not first.namespaces & second.namespaces
        assert {name, other} <= {line.split()[0] for line in hosts("list").stdout.splitlines() if not line.startswith(" ")}
        owner.kill()
        assert until(lambda: not second.left()), second.left()
        assert one.out("ls /var/only-here") == "/var/only-here\n"
    finally:
        hosts("stop", other, check=False)
    hosts("stop", name)
    assert first.left() == []


def test_down_ends_one_host_and_up_reuses_its_name(name: str) -> None:
    _boot(name, os.getpid())
    hosts("down", name, "two")
    assert [path for path in _cgroups(name) if "/two" in path] == []
    assert "two" not in hosts("list").stdout
    assert hosts("ssh", name, "one", "--", "true").returncode == 0
    hosts("up", name, "two=mac:virtual")
    assert Host(name, "two").out("sysctl -n hw.model") == "VirtualMac2,1\n"


def test_a_crashed_host_boots_again_with_its_disk_and_address(name: str) -> None:
    _boot(name, os.getpid())
    mac, linux = Host(name, "one"), Host(name, "two")
    identity = linux.out("cat /etc/machine-id")
    mac.sh("echo kept > /var/kept; sysctl iogpu.wired_limit_mb=5000; launchctl setenv GONE 1; rm /etc/hosts", check=True)
    linux.sh("echo kept > /var/kept; echo gone > /run/gone; systemctl set-environment GONE=1", check=True)
    linux.sh("nohup sleep 4321 >/dev/null 2>&1 &", check=True)
    hosts("crash", name, "one", "two")
    assert [path for path in _cgroups(name) if path.endswith(("/one", "/two"))] == []
    refused = hosts("ssh", name, "one", "--", "true", check=False)
    assert refused.returncode != 0
    hosts("boot", name, "one", "two")
    again = {"one": Host(name, "one"), "two": Host(name, "two")}
    assert {host.address for host in again.values()} == {mac.address, linux.address}
    assert again["one"].out("cat /var/kept; sysctl -n iogpu.wired_limit_mb; launchctl getenv GONE || echo none") == "kept\n0\nnone\n"
    assert again["one"].sh("test -e /etc/hosts").returncode == 1, "what was removed stays away"
    assert again["one"].lines("calls.jsonl"), "its logs go on"
    assert again["two"].out("cat /var/kept /etc/machine-id") == f"kept\n{identity}"
    assert again["two"].sh("test -e /run/gone").returncode == 1
    assert "GONE" not in again["two"].out("systemctl show-environment")
    assert again["two"].sh("pgrep -f 'sleep 432[1]'").returncode == 1
    done = hosts("boot", name, "one", check=False)
    assert (done.returncode, "runs; end it first" in done.stderr) == (1, True)
    # Of now: the kernel gives the numbers of namespaces that are gone to others.
    trace = Trace(name)
    hosts("down", name, "two")
    assert not (CACHE / "sessions" / name / "hosts" / "two").exists(), "its disk goes, too"
    hosts("stop", name)
    assert trace.left() == []


def test_layers_lie_above_the_image(name: str, tmp_path: pathlib.Path) -> None:
    for folder, text in (("low", "low"), ("high", "high")):
        (tmp_path / folder / "opt").mkdir(parents=True)
        (tmp_path / folder / "opt" / "which").write_text(text, encoding="utf-8")
    (tmp_path / "low" / "opt" / "both").write_text("yes", encoding="utf-8")
    hosts("start", name, "--owner-pid", str(os.getpid()))
    spec = [{"name": "one", "kind": "mac", "layers": [str(tmp_path / "low"), str(tmp_path / "high")]}]
    hosts("up", name, "--spec", "-", given=json.dumps(spec))
    one = Host(name, "one")
    assert one.out("cat /opt/which /opt/both") == "highyes"
    one.sh("echo mine > /opt/which", check=True)
    assert (tmp_path / "high/opt/which").read_text(encoding="utf-8") == "high", "layers are read-only"


def test_a_host_that_cannot_boot_is_reported_and_removed(name: str, tmp_path: pathlib.Path) -> None:
    profile = tmp_path / "broken.json"
    profile.write_text("{}", encoding="utf-8")
    hosts("start", name, "--owner-pid", str(os.getpid()))
    done = hosts("up", name, "good=linux", f"bad=mac:{profile}", check=False)
    assert done.returncode == 1
    assert "'bad' did not start" in done.stderr
    assert "KeyError" in done.stderr
    assert [path for path in _cgroups(name) if "/bad" in path or "/good" in path] == []
    assert hosts("list").stdout.count("good") == 0


def test_run_passes_the_exit_status_and_the_inventory_works(name: str) -> None:
    _boot(name, os.getpid())
    assert hosts("run", name, "--", "sh", "-c", "exit 7", check=False).returncode == 7
    assert hosts("run", name, "--", "sh", "-c", "kill -TERM $$", check=False).returncode == 143
    assert hosts("run", name, "--", "sh", "-c", "echo $HOSTS_SESSION; pwd").stdout == f"{name}\n{os.getcwd()}\n"
    inventory = json.loads(hosts("inventory", name).stdout)["all"]
    assert set(inventory["children"]["macs"]["hosts"]) == {"one"}
    assert set(inventory["children"]["linux"]["hosts"]) == {"two"}
    one = inventory["children"]["macs"]["hosts"]["one"]["ansible_host"]
    shared = inventory["vars"]
    command = ["ssh", *shared["ansible_ssh_common_args"].split(), *shared["ansible_ssh_args"].split()]
    command += ["-i", shared["ansible_ssh_private_key_file"], f"root@{one}", "uname"]
    assert hosts("run", name, "--", *command).stdout == "Darwin\n"


def test_twenty_hosts_in_half_a_minute(name: str) -> None:
    hosts("start", name, "--owner-pid", str(os.getpid()))
    start = time.monotonic()
    hosts("up", name, *(f"m{number}=mac" for number in range(10)), *(f"l{number}=linux" for number in range(10)))
    assert time.monotonic() - start < 30
    assert Host(name, "m9").out("uname") == "Darwin\n"
    assert Host(name, "l9").out("uname") == "Linux\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["up", "nobody", "a=linux"], "no session 'nobody'"),
        (["start", "Not Good"], "no usable name"),
        (["start", "late", "--owner-pid", "999999999"], "does not exist"),
    ],
)
def test_mistakes_are_named(words: t.List[str], text: str) -> None:
    done = hosts(*words, check=False)
    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""Up and down of hosts, inside the session's namespaces; runs in a child of the keeper, one per request."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import ipaddress
import json
import os
import pathlib
import socket
import subprocess
import time
import traceback
import typing as t

from . import boot, cgroups, kernel, profiles
from .boot import Material, Spec
from .places import HostsError
from .state import SessionState

NAMESPACES = (
    kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWNET | kernel.CLONE_NEWPID | kernel.CLONE_NEWCGROUP
)
FIRST_ADDRESS = ipaddress.IPv4Address("10.231.1.1")
POLL_SECONDS = 0.05


@dataclasses.dataclass
class Starting:
    """A host between fork and its program: what it says, and the word that its interface is there."""

    spec: Spec
    said: t.IO[str]
    tell: int


@contextlib.contextmanager
def _registry(state: SessionState) -> t.Iterator[None]:
    """Two requests at once must not choose the same name or address."""
    with open(state.folder / "registry.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _register(state: SessionState, specs: t.List[Spec]) -> None:
    counter = state.folder / "addresses"
    with _registry(state):
        for spec in specs:
            if (state.hosts / f"{spec.name}.json").exists():
                raise HostsError(f"session {state.name!r} already has a host {spec.name!r}")
        # Addresses are not used twice: a neighbour's ARP entry or an ssh master may still know the old host.
        used = int(counter.read_text(encoding="ascii")) if counter.exists() else 0
        for number, spec in enumerate(specs, used):
            spec.address = str(FIRST_ADDRESS + number)
            spec.link = f"veth{number + 1}"
            state.write_spec(spec)
        counter.write_text(str(used + len(specs)), encoding="ascii")


def up(state: SessionState, specs: t.List[Spec], limit_seconds: float) -> t.List[str]:
    """Boot all, side by side; returns when each answers as an ssh server, or takes all of them down again."""
    _register(state, specs)
    for spec in specs:
        _make_disk(state, spec)
    return _boot(state, specs, limit_seconds)


def again(state: SessionState, names: t.Sequence[str], limit_seconds: float) -> t.List[str]:
    """Boot hosts that crash() has ended, each with its disk and its address."""
    specs = [state.spec(name) for name in names]
    running = [spec.name for spec in specs if spec.pid]
    if running:
        raise HostsError(f"{', '.join(running)} runs; end it first: hosts crash {state.name} {' '.join(running)}")
    return _boot(state, specs, limit_seconds)


def _boot(state: SessionState, specs: t.List[Spec], limit_seconds: float) -> t.List[str]:
    deadline = time.monotonic() + limit_seconds
    try:
        starting = [_start(state, spec) for spec in specs]
        for host in starting:
            host.spec.pid = int(_expect(state, host, "pid"))
            state.write_spec(host.spec)
        _give_links(specs)
        for host in starting:
            with contextlib.suppress(BrokenPipeError):  # it has failed already, and will say so
                os.write(host.tell, b"network\n")
        for host in starting:
            _expect(state, host, "ready")
        _wait_for_ssh(state, specs, deadline)
    except BaseException:
        down(state, [spec.name for spec in specs])
        raise
    return [spec.address for spec in specs]


def _make_disk(state: SessionState, spec: Spec) -> None:
    """In the session's mount namespace, where it stays when the host's ends."""
    folder = state.hosts / spec.name
    folder.mkdir()
    kernel.mount("tmpfs", str(folder), "tmpfs", 0, "mode=755")


def _material(state: SessionState, spec: Spec) -> Material:
    facts = state.read_facts()
    return Material(
        folder=state.hosts / spec.name,
        base=pathlib.Path(facts["base"]),
        skin=pathlib.Path(facts["skins"][spec.kind]),
        host_key=state.host_key.read_text(encoding="ascii"),
        host_key_public=state.host_key.with_suffix(".pub").read_text(encoding="ascii"),
        authorized=state.key.with_suffix(".pub").read_text(encoding="ascii"),
        profile=profiles.load(spec.profile) if spec.kind == "mac" else None,
    )


def _start(state: SessionState, spec: Spec) -> Starting:
    material = _material(state, spec)
    group = cgroups.session_group(state.name) / spec.name
    cgroups.create(group)
    said_read, said_write = os.pipe2(os.O_CLOEXEC)
    told_read, told_write = os.pipe2(os.O_CLOEXEC)
    starter = os.fork()
    if starter:
        os.close(said_write)
        os.close(told_read)
        os.waitpid(starter, 0)
        return Starting(spec, os.fdopen(said_read, encoding="utf-8"), told_write)
    try:
        os.close(told_write)  # or a host would never see that the request has died
        (group / "cgroup.procs").write_text("0", encoding="ascii")
        kernel.unshare(NAMESPACES)
        pid = os.fork()
        if pid:
            os.write(said_write, f"pid {pid}\n".encode())
            os._exit(0)
        _become_host(state, spec, material, said_write, told_read)
    except BaseException:
        os.write(said_write, ("error " + json.dumps(traceback.format_exc()) + "\n").encode())
    os._exit(1)


def _become_host(state: SessionState, spec: Spec, material: Material, said: int, told: int) -> None:
    os.setsid()
    log = os.open(state.hosts / f"{spec.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    _close_all_but(said, told)

    def network_ready() -> None:
        if not os.read(told, 100):
            os._exit(1)

    boot.boot(spec, material, network_ready, lambda: _say(said, "ready yes\n"))


def _say(descriptor: int, text: str) -> None:
    os.write(descriptor, text.encode())


def _close_all_but(*kept: int) -> None:
    """PID 1 of a host must hold nothing of the session: not its socket, not another host's pipe."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _expect(state: SessionState, host: Starting, word: str) -> str:
    key, _space, value = host.said.readline().rstrip("\n").partition(" ")
    if key == word:
        return value
    story = json.loads(value) if key == "error" else (state.hosts / f"{host.spec.name}.log").read_text(encoding="utf-8", errors="replace")
    raise HostsError(f"host {host.spec.name!r} did not start: {story.strip() or 'it ended without a word'}")


def _give_links(specs: t.Sequence[Spec]) -> None:
    lines = []
    for spec in specs:
        lines.append(f"link add {spec.link} type veth peer name {boot.interface(spec.kind)} netns {spec.pid}")
        lines.append(f"link set {spec.link} master fleet0 up")
    # -force goes on when a host has failed meanwhile; each host then finds its interface, or says that it could not
    subprocess.run(["ip", "-force", "-batch", "-"], input="\n".join(lines) + "\n", text=True, timeout=60, capture_output=True, check=False)


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=1.0) as link:
            return link.recv(4) == b"SSH-"
    except OSError:
        return False


def _wait_for_ssh(state: SessionState, specs: t.Sequence[Spec], deadline: float) -> None:
    waiting = list(specs)
    while waiting:
        waiting = [spec for spec in waiting if not _answers(spec.address)]
        for spec in waiting:
            if not os.path.exists(f"/proc/{spec.pid}/ns/pid"):
                log = (state.hosts / f"{spec.name}.log").read_text(encoding="utf-8", errors="replace")
                raise HostsError(f"host {spec.name!r} ended while it booted: {log.strip()[-2000:]}")
        if waiting and time.monotonic() > deadline:
            raise HostsError(f"no ssh server yet on: {', '.join(spec.name for spec in waiting)}")
        if waiting:
            time.sleep(POLL_SECONDS)


def crash(state: SessionState, names: t.Sequence[str]) -> t.List[str]:
    """End hosts as a power cut does: all of their processes at once. Disk and address stay, for again()."""
    for name in names:
        spec = state.spec(name)
        _end(state, spec)
        spec.pid = 0
        state.write_spec(spec)
    return list(names)


def down(state: SessionState, names: t.Sequence[str]) -> t.List[str]:
    """End hosts, and their disks with them."""
    specs = [state.spec(name) for name in names]
    for spec in specs:
        _end(state, spec)
        with contextlib.suppress(FileNotFoundError):
            with contextlib.suppress(OSError):
                kernel.umount(str(state.hosts / spec.name), kernel.MNT_DETACH)
            (state.hosts / spec.name).rmdir()
        for suffix in (".json", ".log"):
            (state.hosts / f"{spec.name}{suffix}").unlink(missing_ok=True)
    return [spec.name for spec in specs]


def _end(state: SessionState, spec: Spec) -> None:
    """All of a host's processes end with its cgroup, and its mounts with them; the interface is ours to remove."""
    # A dead network namespace is taken apart late, and its interface with it: do not wait for that.
    subprocess.run(["ip", "link", "del", spec.link], capture_output=True, timeout=30, check=False)
    cgroups.remove(cgroups.session_group(state.name) / spec.name)

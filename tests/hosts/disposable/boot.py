# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""One host: from a forked process in the session's namespaces to PID 1 of a machine of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import stat
import subprocess
import typing as t
import uuid

from . import kernel

GATEWAY = "10.231.0.1"
PREFIX = 16
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# sys_module, sys_rawio, sys_time, syslog: root of a host is root of the machine's kernel
DROPPED_CAPABILITIES = (16, 17, 25, 34)
# (name, minor of major 1)
DEVICES = (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9))


@dataclasses.dataclass
class Spec:
    """What a host is to be; written to the session's state and read back by every command."""

    name: str
    kind: str
    address: str = ""
    profile: str = ""
    layers: t.List[str] = dataclasses.field(default_factory=list)
    pid: int = 0
    link: str = ""


@dataclasses.dataclass(frozen=True)
class Material:
    """What the session prepared for its hosts."""

    folder: pathlib.Path
    base: pathlib.Path
    skin: pathlib.Path
    host_key: str
    host_key_public: str
    authorized: str
    profile: t.Optional[t.Dict[str, t.Any]]


def boot(spec: Spec, material: Material, network_ready: t.Callable[[], None], ready: t.Callable[[], None]) -> t.NoReturn:
    """Runs as PID 1 of the new host, before its program. network_ready waits until the session gave us an interface."""
    socket.sethostname(spec.name)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    is_new = not os.path.exists(f"{material.folder}/upper")
    root = _root_file_system(spec, material)
    _devices(root, mac=spec.kind == "mac")
    if is_new:
        _identity(root, spec, material)
    if spec.kind == "mac":
        _mac_mounts(root, material.profile or {}, is_new)
    else:
        _linux_mounts(root)
    network_ready()
    _network(spec)
    ready()
    os.chdir(root)
    os.makedirs(".old", 0o700, exist_ok=True)
    kernel.pivot_root(".", ".old")
    kernel.umount("/.old", kernel.MNT_DETACH)
    os.rmdir("/.old")
    os.chdir("/")
    for capability in DROPPED_CAPABILITIES:
        kernel.prctl(kernel.PR_CAPBSET_DROP, capability)
    if spec.kind == "mac":
        os.execve("/sbin/launchd", ["/sbin/launchd"], {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"})
    os.execve("/lib/systemd/systemd", ["/sbin/init", "--show-status=0"], {"PATH": SYSTEM_PATH, "container": "disposable", "TERM": "linux"})


def _root_file_system(spec: Spec, material: Material) -> str:
    """Read-only layers, all writes to the host's disk, which is a tmpfs of the session: it outlives the host if that is to boot again."""
    space = str(material.folder)
    for name in ("upper", "work", "root"):
        os.makedirs(f"{space}/{name}", 0o755, exist_ok=True)
    lower = ":".join([*reversed(spec.layers), str(material.skin), str(material.base)])
    root = f"{space}/root"
    kernel.mount("overlay", root, "overlay", 0, f"lowerdir={lower},upperdir={space}/upper,workdir={space}/work")
    os.chmod(root, 0o755)
    return root


def _devices(root: str, mac: bool) -> None:
    kernel.mount("tmpfs", f"{root}/dev", "tmpfs", kernel.MS_NOSUID, "mode=755")
    old_mask = os.umask(0)
    try:
        for name, minor in DEVICES:
            os.mknod(f"{root}/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(1, minor))
        os.mknod(f"{root}/dev/tty", stat.S_IFCHR | 0o666, os.makedev(5, 0))
    finally:
        os.umask(old_mask)
    os.mkdir(f"{root}/dev/pts")
    kernel.mount("devpts", f"{root}/dev/pts", "devpts", kernel.MS_NOSUID, "newinstance,ptmxmode=0666,mode=620,gid=5")
    os.symlink("pts/ptmx", f"{root}/dev/ptmx")
    own = "/.sim/proc/self/fd" if mac else "/proc/self/fd"
    os.symlink(own, f"{root}/dev/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"{own}/{number}", f"{root}/dev/{name}")
    os.mkdir(f"{root}/dev/shm")
    kernel.mount("tmpfs", f"{root}/dev/shm", "tmpfs", kernel.MS_NOSUID, "mode=1777")


def _write(path: str, text: str, mode: int = 0o644) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def _identity(root: str, spec: Spec, material: Material) -> None:
    _write(f"{root}/etc/hostname", f"{spec.name}\n")
    _write(f"{root}/etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{spec.address} {spec.name}\n{GATEWAY} controller\n")
    if spec.kind == "linux":
        _write(f"{root}/etc/machine-id", uuid.uuid4().hex + "\n", 0o444)
    _write(f"{root}/etc/ssh/ssh_host_ed25519_key", material.host_key, 0o600)
    _write(f"{root}/etc/ssh/ssh_host_ed25519_key.pub", material.host_key_public)
    homes = {"mac": ("/var/root", "/Users/fleet"), "linux": ("/root", "/home/fleet")}[spec.kind]
    for home, (uid, gid) in zip(homes, ((0, 0), (501, 20))):
        folder = f"{root}{home}/.ssh"
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o700)
        _write(f"{folder}/authorized_keys", material.authorized, 0o600)
        os.chown(folder, uid, gid)
        os.chown(f"{folder}/authorized_keys", uid, gid)


def _linux_mounts(root: str) -> None:
    kernel.mount("proc", f"{root}/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.mount("sysfs", f"{root}/sys", "sysfs", kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    # In the host's cgroup namespace this shows the host's own cgroup as the root of the tree.
    kernel.mount("cgroup2", f"{root}/sys/fs/cgroup", "cgroup2")
    # The machine's kernel settings are out of reach; those of the host's own network stay writable.
    kernel.mount(f"{root}/proc/sys", f"{root}/proc/sys", None, kernel.MS_BIND)
    kernel.mount(f"{root}/proc/sys/net", f"{root}/proc/sys/net", None, kernel.MS_BIND)
    kernel.mount("none", f"{root}/proc/sys", None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY)
    kernel.mount("tmpfs", f"{root}/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    os.mkdir(f"{root}/run/lock")
    kernel.mount("tmpfs", f"{root}/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")


def _mac_mounts(root: str, profile: t.Dict[str, t.Any], is_new: bool) -> None:
    """No /proc and no /sys: only the stand-ins know where the real one is, and jobs get their own (skin/sim/spawn.py)."""
    kernel.mount("proc", f"{root}/.sim/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.mount("tmpfs", f"{root}/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    os.mkdir(f"{root}/run/sshd", 0o755)
    for name in ("proc", "sys"):
        os.chmod(f"{root}/{name}", 0)
    if not is_new:
        # The kernel's memory, and not the disk's.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{root}/.sim/sysctl.json")
        return
    _write(f"{root}/.sim/profile.json", json.dumps(profile))
    _write(f"{root}/.sim/calls.jsonl", "", 0o666)
    _write(f"{root}/.sim/events.jsonl", "")
    macos, darwin = profile["macos"], profile["darwin"]
    names = ("Darwin", darwin["release"], profile["uname_machine"], darwin["version"])
    _write(f"{root}/.sim/uname", "\n".join(names) + "\n")
    _write(f"{root}/System/Library/CoreServices/SystemVersion.plist", SYSTEM_VERSION.format(**macos))


SYSTEM_VERSION = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
\t<key>ProductBuildVersion</key>
\t<string>{build}</string>
\t<key>ProductName</key>
\t<string>macOS</string>
\t<key>ProductUserVisibleVersion</key>
\t<string>{version}</string>
\t<key>ProductVersion</key>
\t<string>{version}</string>
</dict>
</plist>
"""


def _network(spec: Spec) -> None:
    link = interface(spec.kind)
    commands = f"link set lo up\naddr add {spec.address}/{PREFIX} brd + dev {link}\nlink set {link} up\nroute add default via {GATEWAY}\n"
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, timeout=30, check=True)


def interface(kind: str) -> str:
    return "en0" if kind == "mac" else "eth0"

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""The base image, built once: Debian with systemd and OpenSSH. Skins of the two kinds lie above it (skins.py)."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import typing as t

from . import places
from .places import HostsError

SUITE = "bookworm"
PACKAGES = ("openssh-server", "python3", "systemd", "systemd-sysv", "dbus", "iproute2", "sudo", "procps", "libgomp1")
MACHINE_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
    "unshare": "util-linux",
    "cc": "gcc libc6-dev",
}
BUILD_LIMIT_SECONDS = 1200


def install_machine_tools() -> None:
    """What the tool itself needs on the machine; apt is only asked when something is missing."""
    missing = [package for tool, package in MACHINE_TOOLS.items() if shutil.which(tool) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise HostsError(f"missing on this machine: {' '.join(missing)}; this tool needs Debian or Ubuntu, or install them")
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", "--no-install-recommends", *" ".join(missing).split()]):
        done = subprocess.run([*prefix, *environment, *command], timeout=BUILD_LIMIT_SECONDS, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HostsError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")


@contextlib.contextmanager
def locked(name: str) -> t.Iterator[None]:
    """One builder at a time; the others wait and then find the finished folder."""
    places.images().mkdir(parents=True, exist_ok=True)
    with open(places.images() / f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def finished_folder(target: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """A folder to build in, renamed to its final name only when the block ended well. The caller holds the lock."""
    for killed in target.parent.glob(f".{target.name.partition('-')[0]}-*"):
        shutil.rmtree(killed)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        os.chmod(work, 0o755)
        yield work
        os.rename(work, target)
    finally:
        if work.is_dir():
            shutil.rmtree(work)


def base() -> pathlib.Path:
    """The unpacked base image; built when absent. HOSTS_BASE_TAR may name an archive made by the same mmdebstrap call."""
    key = hashlib.sha256(" ".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
    target = places.images() / f"base-{key}"
    if target.is_dir():
        return target
    with locked("base"):
        if not target.is_dir():
            install_machine_tools()
            with finished_folder(target) as work:
                _fill_base(work)
    return target


def _fill_base(folder: pathlib.Path) -> None:
    archive = os.environ.get("HOSTS_BASE_TAR")
    if archive:
        command = ["tar", "-C", str(folder), "--numeric-owner", "-xf", archive, "--exclude=./dev/*"]
    else:
        command = ["mmdebstrap", "--variant=apt", "--format=directory", f"--include={','.join(PACKAGES)}", SUITE, str(folder)]
    done = subprocess.run(command, timeout=BUILD_LIMIT_SECONDS, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostsError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-800:]}")
    _trim_base(folder)


def _trim_base(folder: pathlib.Path) -> None:
    """Nothing of one build may become the identity of every host."""
    for pattern in ("etc/ssh/ssh_host_*", "etc/machine-id", "etc/hostname", "etc/resolv.conf", "var/cache/apt/archives/*.deb"):
        for path in folder.glob(pattern):
            path.unlink()
    for name in ("dev", "proc", "sys", "run"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(mode=0o755)

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""The read-only layer of each kind, above the base image: what makes it a plain systemd host or a simulated Mac."""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import shutil
import stat
import subprocess
import typing as t

from . import image, places
from .places import HostsError

SIM = places.TOOL / "skin" / "sim"
UNAME = places.TOOL / "skin" / "uname_darwin.c"
ADMIN = "fleet"

# Where a Mac has the program -> module of skin/sim. Debian's /bin and /sbin are links into /usr.
STAND_INS = {
    "usr/sbin/launchd": "launchd",
    "usr/bin/launchctl": "launchctl",
    "usr/sbin/sysctl": "sysctl",
    "usr/sbin/system_profiler": "system_profiler",
    "usr/bin/sw_vers": "sw_vers",
    "usr/bin/ps": "ps",
    "usr/bin/vm_stat": "vm_stat",
    "usr/sbin/ioreg": "ioreg",
    "usr/bin/plutil": "plutil",
    "usr/sbin/ifconfig": "ifconfig",
    "usr/sbin/netstat": "netstat",
    "usr/sbin/route": "route",
    "usr/bin/xattr": "xattr",
    "usr/bin/stat": "bsd_stat",
    "usr/bin/codesign": "codesign",
    "usr/sbin/shutdown": "shutdown",
}
LAUNCHER = """#!/usr/bin/python3 -IS
import sys
sys.path.insert(0, "/.sim/lib")
from sim.{module} import main
sys.exit(main(sys.argv[1:]))
"""
# Programs and folders that no Mac has: code that uses them must fail here as it would there.
GONE = """
usr/bin/systemctl usr/bin/journalctl usr/bin/loginctl usr/bin/hostnamectl usr/bin/timedatectl usr/bin/localectl
usr/bin/systemd-run usr/bin/systemd-cat usr/bin/systemd-tmpfiles usr/bin/busctl usr/bin/bootctl usr/bin/networkctl
usr/bin/ip usr/sbin/ip usr/bin/ss usr/sbin/bridge usr/sbin/tc usr/bin/apt usr/bin/apt-get usr/bin/apt-cache
usr/bin/apt-mark usr/bin/apt-config usr/bin/apt-key usr/bin/apt-cdrom usr/bin/dpkg usr/bin/dpkg-query usr/bin/dpkg-deb
usr/bin/dpkg-divert usr/bin/dpkg-split usr/bin/dpkg-statoverride usr/bin/dpkg-trigger usr/sbin/dpkg-preconfigure
usr/sbin/dpkg-reconfigure usr/bin/sha1sum usr/bin/sha224sum usr/bin/sha256sum usr/bin/sha384sum usr/bin/sha512sum
usr/bin/b2sum usr/bin/md5sum usr/bin/timeout usr/bin/flock usr/bin/setpriv usr/bin/nsenter usr/bin/unshare usr/bin/chrt
usr/bin/ionice usr/bin/taskset usr/bin/setsid usr/bin/nproc usr/bin/free usr/bin/vmstat usr/bin/lscpu usr/bin/lsblk
usr/bin/findmnt usr/bin/getent usr/sbin/service usr/sbin/invoke-rc.d usr/sbin/update-rc.d usr/sbin/start-stop-daemon
usr/bin/update-alternatives usr/sbin/useradd usr/sbin/usermod usr/sbin/userdel usr/sbin/groupadd usr/sbin/groupmod
usr/sbin/groupdel usr/sbin/adduser usr/sbin/addgroup usr/bin/top usr/bin/uptime usr/bin/w usr/bin/pgrep usr/bin/pkill
usr/bin/pidof usr/bin/pidwait usr/bin/pmap usr/bin/pwdx usr/bin/skill usr/bin/snice usr/bin/slabtop usr/bin/tload
usr/bin/watch usr/bin/numfmt usr/bin/shuf usr/bin/tac usr/bin/lsns usr/bin/prlimit usr/sbin/init usr/sbin/ldconfig
usr/sbin/runlevel usr/sbin/telinit usr/sbin/reboot usr/sbin/halt usr/sbin/poweroff usr/bin/dmesg usr/sbin/capsh usr/bin/lsipc
boot media mnt srv home root etc/default etc/os-release usr/lib/os-release etc/debian_version etc/lsb-release
etc/systemd etc/apt etc/sysctl.conf etc/sysctl.d
""".split()
MASKED_UNITS = """
systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket
systemd-modules-load.service systemd-sysctl.service systemd-timesyncd.service systemd-remount-fs.service
sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount
dev-hugepages.mount dev-mqueue.mount getty.target console-getty.service systemd-logind.service
apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer systemd-binfmt.service
proc-sys-fs-binfmt_misc.automount systemd-firstboot.service
""".split()
SSHD = """UseDNS no
UsePAM {pam}
PermitRootLogin prohibit-password
PasswordAuthentication no
MaxStartups 200
MaxSessions 100
HostKey /etc/ssh/ssh_host_ed25519_key
{more}"""


@functools.cache
def layer(kind: str) -> pathlib.Path:
    """The finished layer of a kind; its name follows from everything it is made of, so an edited skin is a new layer."""
    base = image.base()
    digest = hashlib.sha256(base.name.encode())
    for source in (pathlib.Path(__file__), UNAME, *sorted(SIM.glob("*.py"))):
        digest.update(source.read_bytes())
    target = places.images() / f"{kind}-{digest.hexdigest()[:12]}"
    if not target.is_dir():
        with image.locked(kind):
            if not target.is_dir():
                with image.finished_folder(target) as work:
                    _BUILDERS[kind](work, base)
                _remove_outdated(target)
    return target


def _remove_outdated(current: pathlib.Path) -> None:
    """Layers of earlier editions of the skin, unless a session still stands on them."""
    used = "".join(facts.read_text(encoding="utf-8") for facts in places.sessions().glob("*/session.json"))
    for old in current.parent.glob(f"{current.name.partition('-')[0]}-*"):
        if old != current and old.name not in used:
            shutil.rmtree(old)


def _write(path: pathlib.Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _common(work: pathlib.Path, base: pathlib.Path, root_home: str, admin_home: str, pam: str, more: str) -> None:
    _write(work / "etc/ssh/sshd_config.d/00-hosts.conf", SSHD.format(pam=pam, more=more))
    _write(work / f"etc/sudoers.d/{ADMIN}", f"{ADMIN} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    users = (base / "etc/passwd").read_text(encoding="utf-8")
    users = users.replace("root:x:0:0:root:/root:/bin/bash", f"root:x:0:0:root:{root_home}:/bin/bash")
    _write(work / "etc/passwd", users + f"{ADMIN}:x:501:20:Fleet administrator:{admin_home}:/bin/bash\n")
    _write(work / "etc/shadow", (base / "etc/shadow").read_text(encoding="utf-8") + f"{ADMIN}:*:19000:0:99999:7:::\n", 0o640)
    for home, owner in ((root_home, 0), (admin_home, 501)):
        folder = work / home.lstrip("/")
        folder.mkdir(parents=True)
        folder.chmod(0o700 if owner == 0 else 0o755)
        os.chown(folder, owner, 0 if owner == 0 else 20)


def _build_linux(work: pathlib.Path, base: pathlib.Path) -> None:
    _common(work, base, "/root", f"/home/{ADMIN}", "yes", "")
    for unit in MASKED_UNITS:
        link = work / "etc/systemd/system" / unit
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("/dev/null")


def _build_mac(work: pathlib.Path, base: pathlib.Path) -> None:
    _common(work, base, "/var/root", f"/Users/{ADMIN}", "no", "SetEnv PATH=/usr/bin:/bin:/usr/sbin:/sbin\n")
    (work / "Users").chmod(0o755)
    # Playbooks say "group: wheel"; on a Mac group 0 has that name and 20 is staff.
    for name in ("group", "gshadow"):
        lines = (base / "etc" / name).read_text(encoding="utf-8").splitlines()
        renamed = [_mac_group(line) for line in lines]
        _write(work / "etc" / name, "\n".join(renamed) + "\n", stat.S_IMODE((base / "etc" / name).stat().st_mode))
    for path, module in STAND_INS.items():
        _write(work / path, LAUNCHER.format(module=module), 0o755)
    for gone in GONE:
        if os.path.lexists(base / gone):
            _whiteout(work / gone)
    library = work / ".sim/lib/sim"
    shutil.copytree(SIM, library, ignore=shutil.ignore_patterns("__pycache__"))
    (work / ".sim").chmod(0o711)
    (work / ".sim/proc").mkdir(mode=0o755)
    _compile_library(work, base)
    for folder in (
        "Library/LaunchDaemons",
        "Library/Application Support",
        "Library/LaunchAgents",
        "Applications",
        "opt/homebrew/bin",
        "System/Library/CoreServices",
        "System/Library/LaunchDaemons",
        "Volumes",
        "private",
        "var/db/com.apple.xpc.launchd",
    ):
        (work / folder).mkdir(parents=True, exist_ok=True)
    for name in ("etc", "var", "tmp"):
        (work / "private" / name).symlink_to(f"../{name}")
    _uname_library(work)


def _mac_group(line: str) -> str:
    name, rest = line.split(":", 1)
    return {"root": "wheel", "dialout": "staff", "staff": "_staff"}.get(name, name) + ":" + rest


def _whiteout(path: pathlib.Path) -> None:
    """How overlayfs says that a lower layer's entry is gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def _run(command: t.Sequence[str]) -> None:
    done = subprocess.run(command, timeout=300, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostsError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")


def _compile_library(work: pathlib.Path, base: pathlib.Path) -> None:
    """Byte code by the image's own Python: a stand-in is started hundreds of times, as any user, on a layer nobody can write."""
    scratch = base / "tmp" / f"compile-{work.name}"
    shutil.copytree(work / ".sim/lib", scratch)
    try:
        _run(
            [
                "chroot",
                str(base),
                "/usr/bin/python3",
                # Whatever PYTHON… variables the caller has: PYTHONPYCACHEPREFIX would put the byte code elsewhere.
                "-I",
                "-m",
                "compileall",
                "-q",
                "--invalidation-mode",
                "unchecked-hash",
                "-d",
                "/.sim/lib",
                f"/tmp/{scratch.name}",
            ]
        )
        shutil.copytree(scratch / "sim/__pycache__", work / ".sim/lib/sim/__pycache__")
    finally:
        shutil.rmtree(scratch)


def _uname_library(work: pathlib.Path) -> None:
    """Without the C library's version symbols, so that a newer compiler machine does not shut out the older image."""
    library = work / "usr/lib/libuname_darwin.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    _run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-fno-stack-protector", "-nostdlib", "-o", str(library), str(UNAME)])
    _write(work / "etc/ld.so.preload", "/usr/lib/libuname_darwin.so\n")


_BUILDERS: t.Dict[str, t.Callable[[pathlib.Path, pathlib.Path], None]] = {"linux": _build_linux, "mac": _build_mac}

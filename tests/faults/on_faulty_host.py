# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a host that gets a fault: on_faulty_host.py ACTION [ARGUMENT...]. It shares no code with the collection.

tmpfs PATH MIB INODES   another file system at the path, with what was there
fill PATH [LEFT_MIB]    nothing more, or only so much, can be written there
use_up_inodes PATH      no file can be made there
make_room PATH          the reverse of both
read_only PATH          the file system there cannot be written to; writable PATH is the reverse
look                    print everything that a run could have changed, left or broken, as JSON
cut                     end every ssh connection, as a network does
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import typing as t

HERE = pathlib.Path(__file__).resolve().parent
IS_MAC = os.uname().sysname == "Darwin"
STATE = "/var/db/metalfleet" if IS_MAC else "/var/lib/metalfleet"
# A simulated Mac hides its real process table; this is where tests look at it.
PROCESSES = "/.sim/proc" if IS_MAC else "/proc"
VARIABLE = "GGML_METAL_NO_RESIDENCY"
OURS = "HF_ENDPOINT"
FILLER = ".filler"
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096
MIB = 1 << 20
# What a run that has ended must not have left anywhere. Not what Ansible's own wrapper leaves in /tmp when its connection is cut.
_TEMPORARY = re.compile(r"\..*\.metalfleet$|\.unpacking$|\.part$")
_PLACES = ("/etc", "/Library", "/Applications", "/Users", "/root", "/var/lib", "/var/db", "/var/root", "/tmp")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2): mount(8) wants /proc, which no Mac has."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, data)]
    if ctypes.CDLL(None, use_errno=True).mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target}")


def tmpfs(path: str, mib: str, inodes: str) -> None:
    """A file system of its own, with the same content, owners and modes."""
    os.makedirs(path, exist_ok=True)
    aside = "/run/aside"
    shutil.copytree(path, aside, symlinks=True)
    status = os.stat(path)
    mount("tmpfs", path, "tmpfs", 0, f"size={mib}m,nr_inodes={inodes},mode={status.st_mode & 0o7777:o}")
    shutil.copytree(aside, path, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(aside)


def fill(path: str, left_mib: str = "0") -> None:
    """As root, so that what is reserved for root is used up as well."""
    space = os.statvfs(path)
    with open(f"{path}/{FILLER}", "wb") as file:
        left = space.f_bfree * space.f_frsize - int(left_mib) * MIB
        # The last block may be needed for the file itself.
        with contextlib.suppress(OSError):
            while left > 0:
                left -= os.write(file.fileno(), b"\0" * min(left, MIB))


def use_up_inodes(path: str) -> None:
    """Empty files until there can be no more."""
    os.mkdir(f"{path}/{FILLER}")
    with contextlib.suppress(OSError):
        for number in range(1_000_000):
            os.close(os.open(f"{path}/{FILLER}/{number}", os.O_CREAT | os.O_WRONLY))


def make_room(path: str) -> None:
    """Take away what was put there."""
    filler = pathlib.Path(path, FILLER)
    shutil.rmtree(filler) if filler.is_dir() else filler.unlink()


def read_only(path: str) -> None:
    """Of a file system that has nothing but this path."""
    os.makedirs(path, exist_ok=True)
    mount(path, path, None, MS_BIND)
    mount("none", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY)


def writable(path: str) -> None:
    """The reverse."""
    if ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(path), 2) != 0:
        raise OSError(ctypes.get_errno(), f"umount {path}")


def processes() -> t.Iterator[t.Tuple[int, t.List[str], t.List[str]]]:
    """pid, command and environment of each process but this one and its parents."""
    for folder in glob.glob(f"{PROCESSES}/[0-9]*"):
        try:
            command = pathlib.Path(folder, "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            environment = pathlib.Path(folder, "environ").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        yield int(pathlib.Path(folder).name), command, environment


def service() -> t.Dict[str, t.Any]:
    """The service as the kernel has it, and as it answers."""
    found = [environment for _pid, command, environment in processes() if any(word.endswith("/bin/gpustack") for word in command[:2])]
    answer = "import urllib.request as u; print(u.urlopen('http://127.0.0.1/healthz', timeout=3).status)"
    told = subprocess.run([sys.executable, "-c", answer], check=False, capture_output=True, text=True, timeout=20)
    return {
        "processes": len(found),
        "has_variable": any(pair.startswith(f"{VARIABLE}=") for environment in found for pair in environment),
        "has_ours": all(any(pair.startswith(f"{OURS}=") for pair in environment) for environment in found),
        "answers": told.stdout.strip() == "200",
    }


def hung() -> t.List[str]:
    """Commands that a run has started, and that are still there."""
    names = ("launchctl", "systemctl", "sysctl", "system_profiler", "codesign", "xattr")
    found = []
    for _pid, command, _environment in processes():
        asked = any(os.path.basename(word) in names for word in command[:3]) or "--version" in command
        if asked and "sleep" not in command[0]:
            found.append(" ".join(command).strip())
    return found


def leftovers() -> t.List[str]:
    """Temporary files anywhere, and what a transaction that has ended keeps no more."""
    found = []
    for place in _PLACES:
        for parent, folders, files in os.walk(place):
            found += [os.path.join(parent, name) for name in folders + files if _TEMPORARY.search(name)]
    previous = pathlib.Path(STATE, "previous.json")
    kept = f"undo-{json.loads(previous.read_text())['started']}" if previous.exists() else ""
    names = os.listdir(STATE) if os.path.isdir(STATE) else []
    return sorted(found + [f"{STATE}/{name}" for name in names if name == "journal.json" or (name.startswith("undo-") and name != kept)])


def look() -> None:
    """Files by digest, mode and owner, but those of Ansible's own; the service; what is left."""
    command = [sys.executable, str(HERE / "snapshot.py"), "--without-state", "--without-times"]
    files = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    starts = pathlib.Path("/var/log/gpustack-starts.log")
    print(
        json.dumps(
            {
                "files": {path: what for path, what in files.items() if FILLER not in path and "/.ansible" not in path},
                "service": service(),
                "starts": len(starts.read_text().splitlines()) if starts.exists() else 0,
                "state": sorted(os.listdir(STATE)) if os.path.isdir(STATE) else [],
                "leftovers": leftovers(),
                "hung": hung(),
            }
        )
    )


def cut() -> None:
    """Those of sshd's processes that serve a connection, this one among them."""
    for pid, command, _environment in processes():
        if command[0].startswith("sshd: ") and "listener" not in command[0]:
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    actions: t.Dict[str, t.Callable[..., None]] = {
        "tmpfs": tmpfs,
        "fill": fill,
        "use_up_inodes": use_up_inodes,
        "make_room": make_room,
        "read_only": read_only,
        "writable": writable,
        "look": look,
        "cut": cut,
    }
    actions[sys.argv[1]](*sys.argv[2:])

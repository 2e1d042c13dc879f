# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep a copy of what is written to file systems, also of files that are gone a moment later.

    file_watch.py OUTPUT LABEL=PATH...

By fanotify(7): whenever a file that was written to is closed, its content at that time is kept. OUTPUT is a folder that gets a file for
each, and `index.jsonl` with label, path (below the file system's root), mode, uid and the copy's name. It prints a line when it
watches, and ends with SIGTERM, after all that has happened until then.
"""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import select
import signal
import stat
import struct
import sys
import typing as t

_CLOEXEC, _NONBLOCK, _UNLIMITED_QUEUE = 0x1, 0x2, 0x10
_ADD, _FILESYSTEM = 0x1, 0x100
_CLOSE_WRITE = 0x8
_EVENT = struct.Struct("<IBBHQii")
# Programs and archives are as small as this in tests.
_MOST_BYTES = 8 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fanotify_mark.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]


def group(path: str) -> int:
    """A descriptor from which events of the path's file system are read. One for each, as events do not say where they are from."""
    descriptor = _LIBC.fanotify_init(_CLOEXEC | _NONBLOCK | _UNLIMITED_QUEUE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME)
    if descriptor < 0 or _LIBC.fanotify_mark(descriptor, _ADD | _FILESYSTEM, _CLOSE_WRITE, -100, path.encode()) < 0:
        sys.exit(f"{path} cannot be watched: {os.strerror(ctypes.get_errno())}")
    return int(descriptor)


class Keeper:
    """Writes copies."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._index = (folder / "index.jsonl").open("w", buffering=1)
        self._count = 0

    def take(self, label: str, descriptor: int) -> None:
        """All events that wait."""
        while True:
            try:
                data = os.read(descriptor, 65536)
            except BlockingIOError:
                return
            while data:
                length, _version, _reserved, _header, _mask, file, _pid = _EVENT.unpack_from(data)
                data = data[length:]
                if file >= 0:
                    try:
                        self._keep(label, file)
                    finally:
                        os.close(file)

    def _keep(self, label: str, file: int) -> None:
        status = os.fstat(file)
        name = str(self._count)
        self._count += 1
        (self._folder / name).write_bytes(os.pread(file, _MOST_BYTES, 0))
        path = os.readlink(f"/proc/self/fd/{file}")
        said = {"label": label, "path": path, "mode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "copy": name}
        self._index.write(json.dumps(said) + "\n")


def main() -> None:
    """Mark, watch."""
    folder, *roots = sys.argv[1:]
    ended = []
    # Not to outlive who started it.
    _LIBC.prctl(1, signal.SIGTERM, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    keeper = Keeper(pathlib.Path(folder))
    groups: dict[int, str] = {}
    poll = select.poll()
    for label, _equals, path in (root.partition("=") for root in roots):
        if os.stat(path).st_dev == os.stat(folder).st_dev:
            sys.exit(f"{path} is on the file system of {folder}: each copy would be a file to copy")
        descriptor = group(path)
        groups[descriptor] = label
        poll.register(descriptor, select.POLLIN)
    print("watching", flush=True)
    while True:
        last = bool(ended)
        ready: t.Iterable[int] = groups if last else [descriptor for descriptor, _event in poll.poll(200)]
        for descriptor in ready:
            keeper.take(groups[descriptor], descriptor)
        if last:
            return


if __name__ == "__main__":
    main()

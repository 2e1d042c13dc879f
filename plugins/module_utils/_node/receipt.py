# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A node's own record of its last full verification, for runs that only want to know whether anything has moved since.

It says what was wanted, everything that decided the outcome (each file with its signature, also those that must not be there, and
what commands said), and the result. Root only. What could be a secret is in it as a digest, with a salt that nothing else has.
`receipt_check` compares it with the node: lines of words, since a node starts twice as fast without a parser of JSON.
"""

from __future__ import annotations

import json
import secrets
import sys
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import receipt_check
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import SEARCH_PATH
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import state_folder
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.receipt_questions import FIXED, is_ripe, way_to_ask
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.release import VERSION
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.systemd_bus import bus_questions, is_of_a_run, says_the_same

if t.TYPE_CHECKING:
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import FileStatus, Host
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.watched_host import Evidence

_NAME = "receipt"
# Of our own folder, what each run changes, and what decides nothing.
_OWN = ("", "/receipt", "/lock", "/previous.json")
_BACKUPS = "/undo-"


def receipt_path(host: Host) -> str:
    """Where it lies."""
    return f"{state_folder(host)}/{_NAME}"


def signature(status: FileStatus) -> bytes:
    """What changes when a file does."""
    return receipt_check.signature(
        status.device, status.inode, status.size_bytes, status.mtime_ns, status.ctime_ns, status.mode, status.uid, status.gid
    )


def write_receipt(
    host: Host, wanted: str, evidence: Evidence, result: t.Mapping[str, t.Any], cleared: tuple[str, int] | None = None
) -> None:
    """Write down that the node was as wanted.

    wanted: the digest of what is wanted, as the action plugin has it. result: what the module returns of a node that it leaves alone.
    cleared: a variable that no process below that pid may have; whether one has it is asked each time.
    """
    salt = secrets.token_hex(16).encode()
    # The interpreter is for runs that have none configured: whichever Ansible found for this one will do for them.
    lines = [
        receipt_check.MAGIC + b" " + _bytes(sys.executable),
        b"version " + VERSION.encode(),
        b"taken %d" % int(evidence.since),
        b"salt " + salt,
    ]
    lines.append(b"wanted " + receipt_check.seal(salt, wanted.encode()))
    lines += _gaps(evidence)
    lines += _files(state_folder(host), evidence)
    lines += _digests(state_folder(host), salt, evidence)
    lines += _contents(salt, evidence)
    by_bus = _by_bus(host, salt, evidence)
    lines += _questions(salt, evidence, asked_otherwise=bool(by_bus))
    lines += by_bus
    lines += _cleared(host, cleared)
    lines += [b"result " + json.dumps(result, separators=(",", ":")).encode(), b"end", b""]
    host.make_folder(state_folder(host), 0o700)
    host.write(receipt_path(host), b"\n".join(lines), 0o600, 0o600)


def remove_receipt(host: Host) -> None:
    """The node is not, or no longer, known to be as wanted."""
    host.remove(receipt_path(host))


def _gaps(evidence: Evidence) -> t.Iterator[bytes]:
    """What keeps the receipt from being one; it is written all the same, since it says why each run takes so long."""
    for gap in evidence.gaps:
        yield b"gap " + _bytes(" ".join(gap.split()))


def _files(own: str, evidence: Evidence) -> t.Iterator[bytes]:
    for path, status in sorted(evidence.files.items()):
        if not _is_own(own, path):
            yield _file(path, status, evidence.since)


def _file(path: str, status: FileStatus | None, since: float) -> bytes:
    if status is None:
        return _line("none", path)
    if path.startswith(("/proc/", "/sys/")):
        return _line("there", path)
    if not is_ripe(status.ctime_ns, since):
        return _line("gap", f"{path} had only just been changed when the receipt was written")
    return _line(f"file {signature(status).decode()}", path)


def _is_own(own: str, path: str) -> bool:
    below = path[len(own) :] if f"{path}/".startswith(f"{own}/") else None
    return below is not None and (below in _OWN or below.startswith(_BACKUPS))


def _digests(own: str, salt: bytes, evidence: Evidence) -> t.Iterator[bytes]:
    for path, digest in sorted(evidence.digests.items()):
        if not _is_own(own, path):
            yield _line(f"digest {receipt_check.seal(salt, digest.encode()).decode()}", path)


def _contents(salt: bytes, evidence: Evidence) -> t.Iterator[bytes]:
    for path, content in sorted(evidence.contents.items()):
        yield _line("none", path) if content is None else _line(f"content {receipt_check.seal(salt, content).decode()}", path)


def _questions(salt: bytes, evidence: Evidence, asked_otherwise: bool) -> t.Iterator[bytes]:
    """asked_otherwise: what can be asked on the bus."""
    for argv, all_said in evidence.answers.items():
        if asked_otherwise and bus_questions(argv):
            continue
        way = way_to_ask(argv, evidence.files)
        if way is None:
            yield _line("gap", f"nobody knows how to ask again what {argv[0]} has said")
            continue
        counts = {receipt_check.answer(way.encode(), said.rc, _bytes(said.stdout), _bytes(said.stderr)) for said in all_said}
        if len(counts) > 1:
            yield _line("gap", f"`{' '.join(argv)}` did not say the same twice")
        elif way != FIXED:
            seal = receipt_check.seal(salt, counts.pop()).decode()
            yield _line(f"ask {way} {seal}", receipt_check.BETWEEN_WORDS.decode().join(argv))


def _by_bus(host: Host, salt: bytes, evidence: Evidence) -> list[bytes]:
    """All that systemctl has said, as properties that cost a node less to ask (docs/performance.md); none where the bus says otherwise now.

    One command that knows a run of the unit by its random id is among them, so that it is the same systemd: a container may have that of
    its host on the bus.
    """
    said = {argv: all_said for argv, all_said in evidence.answers.items() if bus_questions(argv)}
    if any(len(one) > 1 or one[0].rc != 0 or one[0].stderr for one in said.values()):
        return []
    if not any(is_of_a_run(one[0].stdout) for one in said.values()):
        return []
    questions = [question for argv in said for question in bus_questions(argv)]
    try:
        replies = host.systemd_properties(questions)
        program = list(_program(host, "systemctl", evidence.since))
    except HostError:
        return []
    left = iter(replies)
    if not all(says_the_same(argv, one[0].stdout, [next(left) for _question in bus_questions(argv)]) for argv, one in said.items()):
        return []
    return program + [
        b" ".join((b"bus", receipt_check.seal(salt, receipt_check.told(reply)), path, interface, b",".join(names)))
        for (path, interface, names), reply in zip(questions, replies)
    ]


def _program(host: Host, name: str, since: float) -> t.Iterator[bytes]:
    """The program that Host.run() would find by its name, what it leads to, and that none is where it would look before.

    It is not run for what the bus says, and without it the module would fail.
    """
    for folder in SEARCH_PATH.split(":"):
        path = f"{folder}/{name}"
        status = host.status(path)
        yield _file(path, status, since)
        if status is not None:
            if status.is_symlink:
                target = host.resolve(path)
                yield _file(target, host.status(target), since)
            return


def _cleared(host: Host, cleared: tuple[str, int] | None) -> t.Iterator[bytes]:
    if cleared is None:
        return
    name, pid = cleared
    if host.system() == "Darwin":
        # The environments of all processes, as a tree would have to be asked for first.
        argv = ("ps", "-axwwE", "-o", "pid=,command=")
        yield _line(f"clear plain {name}", receipt_check.BETWEEN_WORDS.decode().join(argv))
    else:
        yield _line(f"tree {pid}", name)


def _line(words: str, last: str) -> bytes:
    """A line whose last word may have blanks. A line feed in a path is nothing that GPUStack or this collection makes."""
    return b"gap a name with a line feed" if "\n" in last else f"{words} ".encode() + _bytes(last)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

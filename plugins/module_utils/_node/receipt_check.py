# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The program of the fast path: is everything that the receipt names still as it was?

The action plugin sends system_bus.py and this file, one after the other, to `PYTHON -I -S -` (program_source()), and the module writes
receipts with the same functions. It only compares and never decides: what it does not understand, or cannot look at, is a difference,
and then the module is run. It imports nothing but what interpreters bring along and is loaded at once, since other imports cost a node more
than all that is done here.
"""

from __future__ import annotations

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import typing as t

    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.system_bus import Question
if __name__ != "__main__":
    # There it is a part of the program already.
    from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.system_bus import systemd_properties

MAGIC = b"metalfleet receipt 3"
BETWEEN_WORDS = b"\x1f"
# As Host.run() has them, so that the answers are the same.
_FOLDERS = (b"/usr/bin/", b"/bin/", b"/usr/sbin/", b"/sbin/")
_ENVIRONMENT = {b"PATH": b"/usr/bin:/bin:/usr/sbin:/sbin", b"LC_ALL": b"C", b"LANG": b"C"}
# A service manager that hangs must not hang the run.
_ALARM_SECONDS = 20
# For ending what hangs; then the kernel ends this program.
_LAST_SECONDS = 5
_LIMIT_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
# As many as macOS follows on the way to a file.
_MOST_LINKS = 32
# A clock may be set back a little between two runs.
_CLOCK_SECONDS = 60

# Of `launchctl print`, what _policy/launchctl.py reads; the rest counts forks and the like and is another one at each look.
_JOB_FIELDS = (b"state", b"pid", b"path", b"exit timeout", b"last exit code", b"last terminating signal", b"last exit reason")
_JOB_BLOCKS = (b"global environment", b"inherited environment", b"controller-supplied environment", b"environment")


class Different(Exception):
    """What is not as the receipt says, in words for people."""


class Live:
    """The machine, as far as it is asked."""

    def status(self, path: bytes) -> t.Any:
        """lstat."""
        return posix.lstat(path)

    def read(self, path: bytes) -> bytes:
        """The content of a file."""
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
        try:
            return _drain(descriptor, path)
        finally:
            posix.close(descriptor)

    def digest(self, path: bytes) -> bytes:
        """The SHA-256 of the content of a file, in hexadecimal."""
        try:
            # Several times as quick as Python's own, where programs of a hundred megabytes are read; loading it costs some milliseconds.
            from _hashlib import openssl_sha256  # type: ignore[import-not-found, unused-ignore] # noqa: PLC0415

            sha256 = openssl_sha256
        except ImportError:
            sha256 = _sha256()
        digest = sha256()
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
        try:
            while True:
                piece = posix.read(descriptor, _PIECE_BYTES)
                if not piece:
                    text: str = digest.hexdigest()
                    return text.encode()
                digest.update(piece)
        finally:
            posix.close(descriptor)

    def target(self, path: bytes) -> bytes:
        """Where a link leads."""
        return posix.readlink(path)

    def names(self, path: bytes) -> t.Iterable[bytes]:
        """The names in a folder."""
        return posix.listdir(path)

    def run(self, commands: t.Sequence[t.List[bytes]]) -> t.List[t.Tuple[int, bytes, bytes]]:
        """Exit status and both outputs of each; all run at once."""
        running: t.List[t.Tuple[int, int, int]] = []
        said = []
        try:
            for argv in commands:
                running.append(_start(argv))
            while running:
                said.append(_finish(*running[0]))
                del running[0]
        finally:
            # What hangs would be one more at each run.
            for pid, _out, _err in running:
                _end(pid)
        return said

    def properties(self, questions: t.Sequence[Question]) -> t.List[t.List[bytes]]:
        """As systemd_properties()."""
        return systemd_properties(questions, _ALARM_SECONDS)


def _sha256() -> t.Any:
    # hashlib would load OpenSSL; it is the way for builds of Python that have no sha256 of their own.
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha256  # type: ignore[import-not-found, unused-ignore] # noqa: PLC0415
        else:
            from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore] # noqa: PLC0415
    except ImportError:
        from hashlib import sha256  # noqa: PLC0415
    return sha256


def seal(salt: bytes, data: bytes) -> bytes:
    """A digest that says nothing about the data to who does not have the salt."""
    digest: str = _sha256()(salt + data).hexdigest()
    return digest.encode()


def signature(device: int, inode: int, size: int, mtime_ns: int, ctime_ns: int, mode: int, uid: int, gid: int) -> bytes:
    """What changes when a file does. Nobody but the kernel sets ctime, so one whose size and mtime were put back is seen."""
    return b"%d %d %d %d %d %o %d %d" % (device, inode, size, mtime_ns, ctime_ns, mode, uid, gid)


def answer(kind: bytes, rc: int, stdout: bytes, stderr: bytes) -> bytes:
    """What counts of a command's answer."""
    if kind == b"job":
        stdout = job(stdout)
    elif kind == b"lines":
        stdout = b"\n".join(sorted(stdout.split(b"\n")))
    return b"%d\0%s\0%s" % (rc, stdout, stderr)


def told(replies: t.Sequence[bytes]) -> bytes:
    """What counts of the bus's replies to one question: all of it."""
    return b"".join(b"%d:%b" % (len(reply), reply) for reply in replies)


def job(text: bytes) -> bytes:
    """The lines of `launchctl print` that count."""
    kept = []
    block = b""
    for line in text.rstrip(b"\n").split(b"\n"):
        if block:
            if block in _JOB_BLOCKS:
                kept.append(line)
            if line == b"\t}":
                block = b""
        elif line[:1] == b"\t" and line[1:2] not in (b"", b"\t"):
            if line.endswith((b" = {", b" => {")):
                block = line[1 : -5 if line.endswith(b" => {") else -4]
                if block in _JOB_BLOCKS:
                    kept.append(line)
            elif line[1:].partition(b" = ")[0] in _JOB_FIELDS:
                kept.append(line)
    return b"\n".join(kept)


def verify(text: bytes, asked: t.Tuple[bytes, bytes, float, bool], now_seconds: float, live: Live) -> t.Tuple[int, bytes]:
    """The receipt's age in seconds and the result in it. Raises Different, or anything else where it cannot be understood.

    asked: as for report().
    """
    wanted, version, max_age_seconds, by_content = asked
    lines = text.split(b"\n")
    if not lines[0].startswith(MAGIC + b" ") or lines[-2:] != [b"end", b""]:
        raise Different("the receipt is of another format")
    heads = dict(line.partition(b" ")[::2] for line in lines[1:5])
    if heads[b"version"] != version:
        raise Different(f"the receipt is of release {_shown(heads[b'version'])}")
    if heads[b"wanted"] != seal(heads[b"salt"], wanted):
        raise Different("what is wanted of the node is not what the receipt is about")
    age_seconds = now_seconds - int(heads[b"taken"])
    if age_seconds < -_CLOCK_SECONDS:
        raise Different(f"the receipt is from {-age_seconds / 3600:.1f} hours ahead, so the clock was set back")
    if age_seconds >= max_age_seconds:
        raise Different(f"the receipt is {age_seconds / 3600:.1f} hours old, and counts for {max_age_seconds / 3600:.1f}")
    comparison = _Comparison(live, heads[b"salt"], by_content)
    for line in lines[5:-2]:
        word, _blank, rest = line.partition(b" ")
        comparison.kinds.get(word, comparison.unknown)(rest)
    comparison.ask()
    if not comparison.result:
        raise Different("the receipt has no result")
    return max(0, int(age_seconds)), comparison.result


class _Comparison:
    """The kinds of lines of a receipt; each raises Different for what is not so any more."""

    def __init__(self, live: Live, salt: bytes, by_content: bool) -> None:
        self.live = live
        self.salt = salt
        self.result = b""
        # Digest, and what is asked: all at once, after everything else.
        self.properties: t.List[t.Tuple[bytes, Question]] = []
        # All commands are started at once, after that.
        self.questions: t.List[t.Tuple[t.Callable[[bytes, int, bytes, bytes], bool], t.List[bytes]]] = []
        self.kinds: t.Dict[bytes, t.Callable[[bytes], None]] = {
            b"file": self.file,
            b"none": self.none,
            b"there": self.there,
            b"content": self.content,
            b"digest": self.digest if by_content else lambda _rest: None,
            b"ask": lambda rest: self.questions.append((self.said, rest.split(b" ", 2))),
            b"clear": lambda rest: self.questions.append((self.said_without, rest.split(b" ", 2))),
            b"bus": self.bus,
            b"tree": self.tree,
            b"result": self.keep,
            b"gap": self.gap,
        }

    def unknown(self, rest: bytes) -> None:
        """What a later release writes."""
        raise Different(f"the receipt has a line of an unknown kind (before {_shown(rest)})")

    def keep(self, rest: bytes) -> None:
        """What the module returns of this node."""
        self.result = rest

    def gap(self, rest: bytes) -> None:
        """Why the receipt is none."""
        raise Different(_shown(rest))

    def file(self, rest: bytes) -> None:
        """A file, folder or link with its signature."""
        *signed, path = rest.split(b" ", 8)
        st = _status(self.live, path)
        found = st and signature(
            st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_mode & 0o7777, st.st_uid, st.st_gid
        )
        if found != b" ".join(signed):
            raise Different(f"{_shown(path)} is not as it was")

    def none(self, rest: bytes) -> None:
        """What is not there."""
        if _status(self.live, rest) is not None:
            raise Different(f"{_shown(rest)} was not there")

    def there(self, rest: bytes) -> None:
        """What is there, and has no times of its own."""
        if _status(self.live, rest) is None:
            raise Different(f"{_shown(rest)} is gone")

    def content(self, rest: bytes) -> None:
        """What has no signature, and is read."""
        digest, _blank, path = rest.partition(b" ")
        if _status(self.live, path) is None or seal(self.salt, self.live.read(path)) != digest:
            raise Different(f"{_shown(path)} is not as it was")

    def digest(self, rest: bytes) -> None:
        """What a file held when it was read. Its signature is that of what the kernel was told to write, and this what a disk returns."""
        digest, _blank, path = rest.partition(b" ")
        if seal(self.salt, self.live.digest(path)) != digest:
            raise Different(f"{_shown(path)} holds something else than it did")

    def tree(self, rest: bytes) -> None:
        """A process, none of whose tree was started with a variable. One that ends meanwhile hides nothing."""
        pid, _blank, name = rest.partition(b" ")
        found = [pid]
        for one in found:
            try:
                variables = b"\0" + self.live.read(b"/proc/" + one + b"/environ")
                for thread in self.live.names(b"/proc/" + one + b"/task"):
                    found += self.live.read(b"/proc/" + one + b"/task/" + thread + b"/children").split()
            except (FileNotFoundError, ProcessLookupError):
                if one == pid:
                    raise Different(f"the children of process {_shown(pid)} are not told") from None
                continue
            if b"\0" + name + b"=" in variables:
                raise Different(f"process {_shown(one)} has {_shown(name)}")

    def bus(self, rest: bytes) -> None:
        """What systemd says on the system bus."""
        digest, path, interface, names = rest.split(b" ", 3)
        self.properties.append((digest, (path, interface, names.split(b","))))

    def ask(self) -> None:
        """What systemd and commands say."""
        self.ask_bus()
        answers = self.live.run([argv.split(BETWEEN_WORDS) for _compare, (_kind, _expected, argv) in self.questions])
        for (compare, (kind, expected, argv)), (rc, stdout, stderr) in zip(self.questions, answers):
            if not compare(expected, rc, answer(kind, rc, stdout, stderr), stdout):
                raise Different(f"`{_shown(argv.replace(BETWEEN_WORDS, b' '))}` says something else than it did")

    def ask_bus(self) -> None:
        """What systemd says."""
        if not self.properties:
            return
        try:
            replies = self.live.properties([question for _digest, question in self.properties])
        except (ImportError, OSError) as exc:
            # One that hangs is interrupted by Different, which is none of these.
            raise Different(f"systemd cannot be asked on the system bus ({exc})") from None
        for (digest, (path, interface, _names)), reply in zip(self.properties, replies):
            if seal(self.salt, told(reply)) != digest:
                raise Different(f"systemd says something else of {_shown(path)} ({_shown(interface)}) than it did")

    def said(self, expected: bytes, _rc: int, counts: bytes, _stdout: bytes) -> bool:
        """The same as it did."""
        return seal(self.salt, counts) == expected

    def said_without(self, expected: bytes, rc: int, _counts: bytes, stdout: bytes) -> bool:
        """Nothing of a variable."""
        return rc == 0 and b" " + expected + b"=" not in stdout


def trusted(live: Live, path: bytes) -> bool:
    """Whether nobody but root can have written the file: root's alone, and every folder and link on the way to it root's to change."""
    status = live.status(path)
    if status.st_mode & 0o170000 != 0o100000 or status.st_mode & 0o077 or status.st_uid != 0:
        return False
    at, rest, left = b"", [b"/", *_parts(path)[:-1]], _MOST_LINKS
    while rest:
        name = rest.pop(0)
        if name == b"..":
            at = at.rpartition(b"/")[0]
            continue
        here = name if name == b"/" else at + b"/" + name
        status = live.status(here)
        if status.st_mode & 0o170000 == 0o120000:
            # Its mode says nothing; who may replace it is who may write the folder above. /var is a link to private/var on macOS.
            target = live.target(here)
            at = b"" if target[:1] == b"/" else at
            rest = _parts(target) + rest
            left -= 1
        elif status.st_mode & 0o022:
            return False
        elif name != b"/":
            at = here
        if status.st_uid != 0 or left < 0:
            return False
    return True


def report(path: bytes, asked: t.Tuple[bytes, bytes, float, bool], now_seconds: float, live: Live) -> bytes:
    """What the action plugin reads.

    asked: what is wanted, by which release, how old a receipt may be in seconds, and whether files are read as well.
    """
    try:
        if _status(live, path) is None:
            return b"no there is no receipt"
        if not trusted(live, path):
            return b"no the receipt could have been written by others than root"
        age_seconds, result = verify(live.read(path), asked, now_seconds, live)
    except Different as exc:
        return b"no " + str(exc).encode("utf-8", "backslashreplace")
    except Exception as exc:  # noqa: BLE001 # whatever it is, the module finds out
        return f"no the receipt cannot be checked ({type(exc).__name__}: {exc})".encode("utf-8", "backslashreplace")
    return b"ok %d %s" % (age_seconds, result)


def main(mark: str, wanted: str, version: str, max_age_seconds: float, by_content: bool) -> None:
    """Print the mark and the report. mark: nobody else prints it, so that greetings of a shell are told apart."""
    from _signal import SIG_DFL, SIGALRM, alarm, signal  # type: ignore[import-not-found, unused-ignore] # noqa: PLC0415
    from time import time  # noqa: PLC0415

    def overdue(_number: int, _frame: t.Any) -> None:
        signal(SIGALRM, SIG_DFL)
        alarm(_LAST_SECONDS)
        raise Different(f"the node did not answer within {_ALARM_SECONDS} seconds")

    signal(SIGALRM, overdue)
    alarm(_ALARM_SECONDS)
    folder = b"/var/db/metalfleet" if posix.uname().sysname == "Darwin" else b"/var/lib/metalfleet"
    told = report(folder + b"/receipt", (wanted.encode(), version.encode(), max_age_seconds, by_content), time(), Live())
    line = b"\n%s %s\n" % (mark.encode(), told.replace(b"\n", b" "))
    while line:
        line = line[posix.write(1, line) :]


def _parts(path: bytes) -> t.List[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def _status(live: Live, path: bytes) -> t.Any:
    """None where nothing is there."""
    try:
        return live.status(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def _start(argv: t.List[bytes]) -> t.Tuple[int, int, int]:
    """Start a command with nothing to read; returns its pid and where to read its outputs."""
    environment = {**_ENVIRONMENT, b"HOME": posix.environ.get(b"HOME", b"/var/empty")}
    out, out_end = posix.pipe()
    err, err_end = posix.pipe()
    null = posix.open(b"/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
    ends = [(posix.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate((null, out_end, err_end))]
    for folder in [b""] if b"/" in argv[0] else _FOLDERS:
        try:
            # No module object is here, and importing subprocess takes as long as a whole interpreter. SIGPIPE and SIGXFSZ, which
            # Python ignores, are as subprocess has them. Its own group, so that what it starts is ended with it.
            pid = posix.posix_spawn(  # pylint: disable=ansible-bad-function
                folder + argv[0], argv, environment, file_actions=ends, setsigdef=(13, 25), setpgroup=0
            )
            break
        except FileNotFoundError:
            continue
    else:
        raise Different(f"{_shown(argv[0])} is gone")
    for end in (null, out_end, err_end):
        posix.close(end)
    return pid, out, err


def _finish(pid: int, out: int, err: int) -> t.Tuple[int, bytes, bytes]:
    stdout, stderr = _drain(out, b"an answer"), _drain(err, b"an answer")
    posix.close(out)
    posix.close(err)
    status = posix.waitpid(pid, 0)[1]
    # As subprocess has it: the exit status, or the negative number of the signal.
    return (status >> 8) or -(status & 0x7F), stdout, stderr


def _end(pid: int) -> None:
    for act in (lambda: posix.killpg(pid, 9), lambda: posix.waitpid(pid, 0)):
        try:
            act()
        except OSError:
            # It has ended, and was waited for.
            continue


def _drain(descriptor: int, what: bytes) -> bytes:
    pieces: t.List[bytes] = []
    left = _LIMIT_BYTES
    while True:
        piece = posix.read(descriptor, 65536)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            raise Different(f"{_shown(what)} is longer than anything of its kind")

# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host's commands and files, on this machine."""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess
import tempfile
import time
import types
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import host as host_module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult, Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import CommandMissingError, CommandTimeoutError, HostError

HOST = Host()
NOBODY = 65534


def test_a_command_s_status_and_outputs() -> None:
    result = HOST.run(["/bin/sh", "-c", r"printf 'a\377'; printf 'b\376' >&2; exit 3"])
    assert result == CommandResult(3, "a\udcff", "b\udcfe")


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [("no\n  such\ttable\n", "rc 3: no such table"), (" \n", "rc 3: it said nothing"), ("", "rc 3: it said nothing")],
)
def test_how_a_command_failed_in_one_line(stderr: str, expected: str) -> None:
    assert CommandResult(3, "output that may hold a secret", stderr).failure() == expected


def test_a_command_killed_by_a_signal() -> None:
    assert HOST.run(["/bin/sh", "-c", "kill -9 $$"]).rc == -9


def test_a_command_gets_its_words_as_they_are_and_no_input() -> None:
    result = HOST.run(["/bin/sh", "-c", 'printf "<%s>" "$@"; cat', "sh", "a b", "$(x)", "*", ""])
    assert result == CommandResult(0, "<a b><$(x)><*><>", "")


def test_a_command_s_environment_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.setenv("PATH", "/planted")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("LC_NUMERIC", "de_DE.UTF-8")
    monkeypatch.setenv("PLANTED", "1")
    wanted = ["HOME=/home/x", "LANG=C", "LC_ALL=C", "PATH=/usr/bin:/bin:/usr/sbin:/sbin"]
    assert sorted(HOST.run(["/usr/bin/env"]).stdout.split()) == wanted
    monkeypatch.delenv("HOME")
    assert "HOME=/var/empty" in HOST.run(["/usr/bin/env"]).stdout.split()


def test_a_program_is_looked_for_in_standard_places_only(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = tmp_path / "uname"
    planted.write_text("#!/bin/sh\necho planted\n")
    planted.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert HOST.run(["uname", "-s"]).stdout == f"{os.uname().sysname}\n"
    planted.rename(tmp_path / "only-here")
    with pytest.raises(CommandMissingError, match=r"^only-here does not exist on this host$"):
        HOST.run(["only-here"])


def test_a_file_that_is_no_program(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(HostError, match=f"^{tmp_path}/x cannot be run: Permission denied$"):
        HOST.run([f"{tmp_path}/x"])


def test_a_time_limit_does_not_show_the_value_of_a_variable() -> None:
    with pytest.raises(CommandTimeoutError, match=r"^/bin/sh -c sleep 60 setenv NAME \(not shown\) did not end within 0.1 seconds"):
        HOST.run(["/bin/sh", "-c", "sleep 60", "setenv", "NAME", "s3cret"], timeout_seconds=0.1)


def test_a_time_limit_ends_the_command_and_what_it_started(tmp_path: pathlib.Path) -> None:
    started = time.monotonic()
    with pytest.raises(CommandTimeoutError) as caught:
        HOST.run(["/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait"], timeout_seconds=0.5)
    assert time.monotonic() - started < 20
    assert str(caught.value).endswith("did not end within 0.5 seconds and was killed")
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        state = HOST.run(["ps", "-o", "stat=", "-p", str(pid)]).stdout.strip()
        if not state or state.startswith("Z"):
            break
        time.sleep(0.05)
    assert not state or state.startswith("Z")


class StubbornProcess:
    """A process that nobody can end, as one in uninterruptible sleep."""

    pid = 4_000_000

    def __init__(self) -> None:
        self.killed = False

    def kill(self) -> None:
        self.killed = True

    def communicate(self, timeout: float) -> t.Tuple[bytes, bytes]:
        raise subprocess.TimeoutExpired("x", timeout)


@pytest.mark.parametrize("error", [ProcessLookupError, PermissionError])
def test_a_process_that_cannot_be_ended_is_left(error: t.Type[OSError], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        assert (pid, signal) == (4_000_000, 9)
        raise error

    process = StubbornProcess()
    monkeypatch.setattr(subprocess, "Popen", lambda *_arguments, **_options: process)
    monkeypatch.setattr(host_module.os, "killpg", refuse)
    with pytest.raises(CommandTimeoutError, match=r"^x y did not end within 30 seconds and was killed$"):
        HOST.run(["x", "y"])
    assert process.killed


def test_facts_of_the_machine() -> None:
    assert HOST.system() == os.uname().sysname
    assert HOST.machine() == os.uname().machine
    assert HOST.effective_uid() == os.geteuid()
    assert abs(HOST.now() - time.time()) < 60
    before = HOST.monotonic()
    HOST.pause(0.05)
    assert HOST.monotonic() - before >= 0.05


def test_status(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    file.chmod(0o641)
    (tmp_path / "link").symlink_to("file")
    st = file.stat()
    status = HOST.status(str(file))
    assert status is not None
    assert status == (False, True, False, 0o641, st.st_uid, st.st_gid, st.st_ino, 5, st.st_mtime_ns, st.st_ctime_ns, st.st_dev)
    link = HOST.status(str(tmp_path / "link"))
    assert link is not None
    assert (link.is_symlink, link.is_file, link.is_directory) == (True, False, False)
    folder = HOST.status(str(tmp_path))
    assert folder is not None
    assert (folder.is_symlink, folder.is_file, folder.is_directory) == (False, False, True)
    assert HOST.status(str(tmp_path / "none")) is None
    assert HOST.status(str(file / "below")) is None
    with pytest.raises(HostError, match=r"cannot be examined: File name too long$"):
        HOST.status(str(tmp_path / ("x" * 300)))


def test_resolve(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("none")
    assert HOST.resolve(str(tmp_path / "a")) == str(tmp_path.resolve() / "none")


def test_read(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\0\xff123")
    (tmp_path / "link").symlink_to("file")
    assert HOST.read(str(file)) == b"\0\xff123"
    assert HOST.read(str(tmp_path / "link")) == b"\0\xff123"
    assert HOST.read(str(file), limit_bytes=5) == b"\0\xff123"
    with pytest.raises(HostError, match=f"^{file} is larger than 4 bytes, which no file of its kind is$"):
        HOST.read(str(file), limit_bytes=4)
    assert HOST.read(str(tmp_path / "none")) is None
    assert HOST.read(str(file / "below")) is None
    with pytest.raises(HostError, match=r"cannot be read: File name too long$"):
        HOST.read(str(tmp_path / ("x" * 300)))


def test_read_takes_regular_files_only_and_leaves_nothing_open(tmp_path: pathlib.Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    before = os.open(os.devnull, os.O_RDONLY)
    os.close(before)
    for path in (fifo, tmp_path, pathlib.Path(os.devnull)):
        for look in (HOST.read, HOST.sha256):
            with pytest.raises(HostError, match=f"^{path} is not a regular file$"):
                look(str(path))
    after = os.open(os.devnull, os.O_RDONLY)
    os.close(after)
    assert after == before


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that opens and cannot be read")
def test_a_file_that_opens_and_cannot_be_read() -> None:
    with pytest.raises(HostError, match=r"^/proc/self/mem cannot be read: Input/output error$"):
        HOST.read("/proc/self/mem")
    with pytest.raises(HostError, match=r"^/proc/self/mem cannot be read: Input/output error$"):
        HOST.sha256("/proc/self/mem")


def test_sha256(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    data = bytes(range(256)) * 4096 * 3 + b"x"
    file.write_bytes(data)
    assert HOST.sha256(str(file)) == hashlib.sha256(data).hexdigest()
    file.write_bytes(b"")
    assert HOST.sha256(str(file)) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert HOST.sha256(str(tmp_path / "none")) is None
    assert HOST.sha256(str(file / "below")) is None


def test_names(tmp_path: pathlib.Path) -> None:
    for name in ("b", "a", ".c"):
        (tmp_path / name).write_text("")
    assert HOST.names(str(tmp_path)) == [".c", "a", "b"]
    assert HOST.names(str(tmp_path / "none")) == []
    assert HOST.names(str(tmp_path / "a")) == []
    with pytest.raises(HostError, match=r"cannot be listed: File name too long$"):
        HOST.names(str(tmp_path / ("x" * 300)))


@pytest.fixture
def as_user() -> t.Iterator[None]:
    """root may read everything; in CI the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


@pytest.mark.usefixtures("as_user")
def test_what_others_forbid() -> None:
    # Not tmp_path, which a user other than the one who started the tests cannot reach.
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        (path / "shut").mkdir(mode=0)
        (path / "file").write_text("x")
        (path / "file").chmod(0)
        with pytest.raises(HostError, match=r"cannot be read: Permission denied$"):
            HOST.read(str(path / "file"))
        with pytest.raises(HostError, match=r"cannot be listed: Permission denied$"):
            HOST.names(str(path / "shut"))


def test_write(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "file")
    HOST.write(path, b"1", 0o604)
    assert HOST.read(path) == b"1"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o604
    HOST.write(path, b"2", 0o644, mode=0o600)
    assert HOST.read(path) == b"2"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_make_folder_and_remove(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "folder" / "below"
    HOST.make_folder(str(folder), 0o700)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_mode & 0o777 == 0o755
    folder.chmod(0o750)
    HOST.make_folder(str(folder), 0o700)
    assert folder.stat().st_mode & 0o777 == 0o750
    (tmp_path / "link").symlink_to(folder)
    HOST.remove(str(tmp_path / "link"))
    assert folder.is_dir()
    HOST.remove(str(tmp_path / "link"))
    HOST.remove(str(folder.parent))
    assert os.listdir(tmp_path) == []


def test_rename(tmp_path: pathlib.Path) -> None:
    (tmp_path / "old").write_bytes(b"1")
    (tmp_path / "new").write_bytes(b"2")
    HOST.rename(str(tmp_path / "old"), str(tmp_path / "new"))
    assert os.listdir(tmp_path) == ["new"]
    assert (tmp_path / "new").read_bytes() == b"1"
    with pytest.raises(HostError) as caught:
        HOST.rename(str(tmp_path / "old"), str(tmp_path / "new"))
    assert str(caught.value) == f"{tmp_path}/old cannot be renamed to {tmp_path}/new: No such file or directory"


def test_free_bytes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def statvfs(folder: str) -> types.SimpleNamespace:
        asked.append(folder)
        return types.SimpleNamespace(f_bavail=3, f_bfree=5, f_bsize=7, f_frsize=4096)

    assert HOST.free_bytes(str(tmp_path)) > 0
    monkeypatch.setattr(os, "statvfs", statvfs)
    assert HOST.free_bytes("/x") == 3 * 4096
    assert asked == ["/x"]


def test_this_run_s_pid() -> None:
    assert HOST.process_id() == os.getpid()

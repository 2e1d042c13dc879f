# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest
import yaml
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult, Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import (
    receipt_path,
    remove_receipt,
    signature,
    write_receipt,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.watched_host import Evidence, WatchedHost
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.release import VERSION
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wanted_digest import digest_of
from ansible_collections.metalfleet.gpustack.tests.unit import bus_recordings
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost
from ansible_collections.metalfleet.gpustack.tests.unit.fast_paths import compare, receipt_of

RESULT = {"changed": False, "diff": [], "where": "über\u2028all"}
WANTED = str(digest_of({"environment": {}}))
FILE = "/etc/default/gpustack"


def node(system: str = "Linux", **options: t.Any) -> t.Any:
    return MemoryHost(system=system, files={FILE: b"A=1\n"}, **options)


def write(host: t.Any, cleared: tuple[str, int] | None = None, **seen: t.Any) -> None:
    write_receipt(host, WANTED, Evidence(host.now(), **seen), RESULT, cleared)


def verdict(host: t.Any, **options: t.Any) -> t.Any:
    return compare(host, environment={}, **options)


def look(host: t.Any, *paths: str) -> dict[str, t.Any]:
    watched = WatchedHost(host)
    for path in paths:
        watched.status(path)
    return watched.evidence.files


def test_the_release_is_that_of_the_collection() -> None:
    """The checkout's, or what the build made of it."""
    root = pathlib.Path(__file__).parents[5]
    assert yaml.safe_load((root / "galaxy.yml").read_text(encoding="utf-8"))["version"] == VERSION


@pytest.mark.parametrize(("system", "folder"), [("Darwin", "/var/db/metalfleet"), ("Linux", "/var/lib/metalfleet")])
def test_where_it_lies(system: str, folder: str) -> None:
    host = node(system)
    assert receipt_path(host) == f"{folder}/receipt"
    write(host)
    assert (host.files[receipt_path(host)].mode, host.folder_modes[folder]) == (0o600, 0o700)
    assert verdict(host) == RESULT
    # Whatever it was before.
    host.files[receipt_path(host)].mode = 0o644
    write(host)
    assert host.files[receipt_path(host)].mode == 0o600
    remove_receipt(host)
    assert verdict(host) == "there is no receipt"
    remove_receipt(host)


def test_a_file_and_the_absence_of_one() -> None:
    host = node()
    write(host, files=look(host, FILE, "/none", "/etc"))
    assert verdict(host) == RESULT
    host._put("/none", MemoryFile())
    assert verdict(host) == "/none was not there"
    host.remove("/none")
    assert verdict(host) == RESULT
    host.write(FILE, b"A=2\n", 0o644)
    assert verdict(host) == f"{FILE} is not as it was"
    host.remove(FILE)
    assert verdict(host) == f"{FILE} is not as it was"


@pytest.mark.parametrize("change", [{"mode": 0o600}, {"uid": 501}, {"gid": 20}, {"inode": 77}, {"content": b"A=11\n"}, {"ctime_ns": 5}])
def test_each_part_of_a_signature(change: dict[str, t.Any]) -> None:
    host = node()
    host.files[FILE].ctime_ns = 4
    write(host, files=look(host, FILE))
    for name, value in change.items():
        setattr(host.files[FILE], name, value)
    assert verdict(host) == f"{FILE} is not as it was"


def test_what_files_hold_counts_where_content_is_asked_for() -> None:
    """A disk that returns other bytes than were written changes nothing else."""
    host = node()
    watched = WatchedHost(host)
    assert watched.read(FILE) == b"A=1\n"
    write(host, files=watched.evidence.files, digests=watched.evidence.digests)
    assert verdict(host) == verdict(host, by_content=True) == RESULT
    host.files[FILE].content = b"A=2\n"
    assert verdict(host) == RESULT
    assert verdict(host, by_content=True) == f"{FILE} holds something else than it did"
    # What is in our own folder, and each run changes, is not looked at.
    own = receipt_path(host)
    write(host, digests={own: "0" * 64, own.replace("receipt", "undo-1/0"): "0" * 64})
    assert verdict(host, by_content=True) == RESULT


def test_a_folder_that_has_other_names() -> None:
    host = node()
    write(host, files=look(host, "/etc/default"))
    host.write("/etc/default/other", b"", 0o644)
    assert verdict(host) == "/etc/default is not as it was"


@pytest.mark.parametrize(
    ("ctime_ns", "is_signed"),
    [
        (1_800_000_000_000_000_000, False),
        (1_799_999_999_960_000_001, False),
        (1_799_999_999_940_000_001, True),
        # A file system that keeps whole seconds.
        (1_799_999_999_000_000_000, False),
        (1_799_999_997_000_000_000, True),
        # The clock was set back since: by little, during this run perhaps, and long ago.
        (1_800_000_600_000_000_001, False),
        (1_900_000_000_000_000_001, True),
    ],
)
def test_a_file_that_had_just_been_changed_is_not_signed(ctime_ns: int, is_signed: bool) -> None:
    host = node()
    host.files[FILE].ctime_ns = ctime_ns
    write(host, files=look(host, FILE))
    assert verdict(host) == (RESULT if is_signed else f"{FILE} had only just been changed when the receipt was written")


def test_own_files() -> None:
    host = node()
    own = "/var/lib/metalfleet"
    for name in ("previous.json", "lock", "undo-1/0", "llama-box.json"):
        host._put(f"{own}/{name}", MemoryFile(b"{}"))
    paths = [f"{own}/{name}" for name in ("previous.json", "lock", "undo-1/0", "llama-box.json", "journal.json", "receipt")]
    write(host, files=look(host, own, *paths, f"{own}x"))
    found = receipt_of(host)
    assert found is not None
    assert found.files.keys() == {f"{own}/llama-box.json", f"{own}/journal.json", f"{own}x"}
    assert verdict(host) == RESULT


def test_what_the_kernel_makes_up() -> None:
    host = node()
    host._put("/proc/7/environ", MemoryFile(b"TOKEN=canary\0"))
    host._put("/sys/there", MemoryFile())
    seen = {"contents": {"/proc/7/environ": b"TOKEN=canary\0", "/proc/none": None}, "files": look(host, "/sys/there", "/sys/not")}
    write(host, **seen)
    assert b"canary" not in host.files[receipt_path(host)].content
    # Its times are those of the first look after a while.
    host._put("/sys/there", MemoryFile())
    assert verdict(host) == RESULT
    host._put("/proc/7/environ", MemoryFile(b"TOKEN=canary\0MORE=1\0"))
    assert verdict(host) == "/proc/7/environ is not as it was"
    host.remove("/proc/7/environ")
    assert verdict(host) == "/proc/7/environ is not as it was"
    write(host, **{**seen, "contents": {"/proc/none": None}})
    host._put("/proc/none", MemoryFile())
    assert verdict(host) == "/proc/none was not there"
    host.remove("/proc/none")
    host.remove("/sys/there")
    assert verdict(host) == "/sys/there is gone"


SHOW = ("systemctl", "--no-pager", "show", "gpustack.service")
RECORDED = bus_recordings.RECORDINGS[1]
SHOW_ALL, SHOW_ENVIRONMENT = bus_recordings.SHOW, bus_recordings.SHOW_ENVIRONMENT


def test_what_commands_say() -> None:
    said = CommandResult(0, "MainPID=7\n", "a warning\udcff\n")
    host = node(commands={SHOW: said})
    write(host, answers={SHOW: [said]})
    assert verdict(host) == RESULT
    for other in (CommandResult(1, *said[1:]), CommandResult(0, "MainPID=8\n", said.stderr), CommandResult(0, said.stdout, "")):
        host.commands[SHOW] = other
        assert verdict(host) == "`systemctl --no-pager show gpustack.service` says something else than it did"
    write(host, answers={SHOW: [said, other]})
    assert verdict(host) == "`systemctl --no-pager show gpustack.service` did not say the same twice"


def on_a_bus(show: str = RECORDED.show, environment: str = RECORDED.show_environment) -> t.Any:
    """A node that systemctl has told this of, and whose bus says what a recorded one has said."""
    host = node()
    replies = dict(zip(bus_recordings.QUESTIONS, RECORDED.replies()))
    host.systemd_properties = lambda questions: [replies[(path, interface, tuple(names))] for path, interface, names in questions]
    host.commands.update({SHOW_ALL: CommandResult(0, show, ""), SHOW_ENVIRONMENT: CommandResult(0, environment, "")})
    answers = {SHOW_ALL: [host.commands[SHOW_ALL]], SHOW_ENVIRONMENT: [host.commands[SHOW_ENVIRONMENT]]}
    write(host, answers=answers)
    return host


def test_what_systemd_says_is_asked_on_the_bus() -> None:
    host = on_a_bus()
    found = receipt_of(host)
    assert found is not None
    assert (len(found.bus), found.asked, verdict(host)) == (13, {}, RESULT)
    host.calls.clear()
    assert verdict(host) == RESULT
    assert host.calls == []


@pytest.mark.parametrize(("place", "number"), [(place, number) for place, size in enumerate((7, 5, 1)) for number in range(size)])
def test_any_property_that_the_bus_says_otherwise(place: int, number: int) -> None:
    host = on_a_bus()
    path, interface, _names = bus_recordings.QUESTIONS[place]
    replies = RECORDED.replies()
    replies[place][number] += b"x"
    host.systemd_properties = lambda _questions: replies
    assert verdict(host) == f"systemd says something else of {path.decode()} ({interface.decode()}) than it did"


def test_systemctl_is_what_it_was_although_it_is_not_run() -> None:
    """The module would fail without it."""
    host = on_a_bus()
    host._put("/bin/systemctl", MemoryFile(b"1"))
    assert verdict(host) == "/bin/systemctl was not there"
    answers = {argv: [host.commands[argv]] for argv in (SHOW_ALL, SHOW_ENVIRONMENT)}
    write(host, answers=answers)
    assert verdict(host) == RESULT
    # Found before the other one.
    host._put("/usr/bin/systemctl", MemoryFile(b"1"))
    assert verdict(host) == "/usr/bin/systemctl was not there"
    host.remove("/usr/bin/systemctl")
    host.remove("/bin/systemctl")
    assert verdict(host) == "/bin/systemctl is not as it was"
    # A link, and what it leads to.
    host.link("/bin/systemctl", "/opt/systemctl")
    host._put("/opt/systemctl", MemoryFile(b"1"))
    write(host, answers=answers)
    assert verdict(host) == RESULT
    host._put("/opt/systemctl", MemoryFile(b"2"))
    assert verdict(host) == "/opt/systemctl is not as it was"
    # What is run is asked for by running it.
    write(host, answers={SHOW: [CommandResult(0, "", "")]})
    found = receipt_of(host)
    assert found is not None
    assert found.files == {}


def test_a_bus_that_is_gone_is_a_difference() -> None:
    host = on_a_bus()
    host.systemd_properties = node().systemd_properties
    assert verdict(host).startswith("systemd cannot be asked on the system bus (")


@pytest.mark.parametrize(
    ("show", "environment"),
    [
        (RECORDED.show.replace("SubState=running", "SubState=exited"), RECORDED.show_environment),
        (RECORDED.show, "A=1\n"),
        # Nothing tells that it is the same systemd: that of a container, say, and its host's on the bus.
        ("", RECORDED.show_environment),
    ],
)
def test_where_the_bus_says_something_else_both_commands_are_asked(show: str, environment: str) -> None:
    """It may be another systemd's, or systemd is asked a moment later than it was."""
    host = on_a_bus(show, environment)
    found = receipt_of(host)
    assert found is not None
    assert (set(found.bus), set(found.asked)) == (set(), {" ".join(SHOW_ALL), " ".join(SHOW_ENVIRONMENT)})
    assert verdict(host) == RESULT
    host.commands[SHOW_ENVIRONMENT] = CommandResult(0, "B=1\n", "")
    assert "`systemctl --no-pager show-environment` says something else than it did" in verdict(host)


def test_an_environment_alone_is_asked_by_its_command() -> None:
    host = on_a_bus()
    write(host, answers={SHOW_ENVIRONMENT: [host.commands[SHOW_ENVIRONMENT]]})
    found = receipt_of(host)
    assert found is not None
    assert (set(found.bus), set(found.asked)) == (set(), {" ".join(SHOW_ENVIRONMENT)})


@pytest.mark.parametrize("said", [CommandResult(1, RECORDED.show, ""), CommandResult(0, RECORDED.show, "a warning\n")])
def test_what_systemctl_says_beside_is_asked_again(said: CommandResult) -> None:
    """The bus has nothing of it."""
    host = on_a_bus()
    host.commands[SHOW_ALL] = said
    write(host, answers={SHOW_ALL: [said]})
    found = receipt_of(host)
    assert found is not None
    assert (set(found.bus), set(found.asked)) == (set(), {" ".join(SHOW_ALL)})


def test_without_a_bus_the_command_is_asked() -> None:
    host = node(commands={SHOW_ALL: CommandResult(0, RECORDED.show, "")})
    write(host, answers={SHOW_ALL: [CommandResult(0, RECORDED.show, "")]})
    found = receipt_of(host)
    assert found is not None
    assert (set(found.bus), set(found.asked), verdict(host)) == (set(), {" ".join(SHOW_ALL)}, RESULT)


def test_answers_that_need_not_be_asked_again() -> None:
    host = node()
    program = ("/bin/llama-box", "--version")
    fixed: dict[tuple[str, ...], list[CommandResult]] = {
        ("/usr/sbin/sysctl", "-n", "hw.optional.arm64"): [CommandResult(0, "1\n", "")],
        program: [CommandResult(0, "v1\n", "")],
    }
    write(host, answers=fixed, files={program[0]: None})
    found = receipt_of(host)
    assert found is not None
    assert (found.asked, found.rest, verdict(host)) == ({}, [], RESULT)
    # What is not signed could be another program by now.
    write(host, answers=fixed)
    assert verdict(host) == "nobody knows how to ask again what /bin/llama-box has said"


def test_gaps() -> None:
    host = node()
    write(host, gaps=["nobody\nknows  why"])
    assert verdict(host) == "nobody knows why"
    write(host, files={"/etc/a\nnone /etc": None})
    assert verdict(host) == "a name with a line feed"


def test_a_variable_that_no_process_may_have_on_linux() -> None:
    host = node()

    def process(pid: int, environ: bytes, children: bytes = b"", thread: int = 0) -> None:
        host._put(f"/proc/{pid}/environ", MemoryFile(environ))
        host._put(f"/proc/{pid}/task/{thread or pid}/children", MemoryFile(children))

    process(7, b"PATH=/bin\0", b"8 ")
    process(7, b"PATH=/bin\0", b"9 10 \n", thread=70)
    process(8, b"XBAD=1\0")
    process(9, b"PATH=/bin\0", b"11 ")
    process(11, b"A=BAD=1\0")
    write(host, cleared=("BAD", 7))
    # 10 has ended meanwhile.
    assert verdict(host) == RESULT
    process(11, b"A=1\0BAD=\0")
    assert verdict(host) == "process 11 has BAD"
    process(7, b"BAD=1\0")
    assert verdict(host) == "process 7 has BAD"
    host.remove("/proc/7")
    assert verdict(host) == "the children of process 7 are not told"


def test_a_variable_that_no_process_may_have_on_a_mac() -> None:
    ps = ("ps", "-axwwE", "-o", "pid=,command=")
    host = node("Darwin", commands={ps: CommandResult(0, "1 /sbin/launchd\n7 /bin/x NOTBAD=1 A=BAD=2\n", "")})
    write(host, cleared=("BAD", 7))
    assert verdict(host) == RESULT
    for said in (CommandResult(0, "7 /bin/x PATH=/bin BAD=1\n", ""), CommandResult(1, "", "")):
        host.commands[ps] = said
        assert verdict(host) == "`ps -axwwE -o pid=,command=` says something else than it did"


def test_secrets_cannot_be_guessed_from_two_receipts() -> None:
    """Nor told to be the same on two nodes."""
    hosts = on_a_bus(), on_a_bus()
    for host in hosts:
        host._put("/proc/7/environ", MemoryFile(b"TOKEN=1\0"))
        watched = WatchedHost(host)
        watched.read(FILE)
        answers = {argv: [host.commands[argv]] for argv in (SHOW_ALL, SHOW_ENVIRONMENT)}
        write(host, contents={"/proc/7/environ": b"TOKEN=1\0"}, digests=watched.evidence.digests, answers=answers)
        assert b"two words" not in host.files[receipt_path(host)].content
    first, second = (set(host.files[receipt_path(host)].content.split()) for host in hosts)
    assert not [word for word in first & second if len(word) == 64]
    assert WANTED.encode() not in first


def test_the_signature_of_a_real_file(tmp_path: pathlib.Path) -> None:
    host, path = Host(), tmp_path / "file"
    path.write_bytes(b"one")
    status = path.lstat()

    def now() -> bytes:
        found = host.status(str(path))
        assert found is not None
        return signature(found)

    first = now()
    words = [status.st_dev, status.st_ino, 3, status.st_mtime_ns, status.st_ctime_ns]
    assert first.decode().split() == [*map(str, words), f"{status.st_mode & 0o7777:o}", str(os.getuid()), str(os.getgid())]
    assert now() == first
    # Somebody puts size and time of change back.
    while path.lstat().st_ctime_ns == status.st_ctime_ns:
        path.write_bytes(b"two")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = now()
    assert (again.split()[:4], again == first) == (first.split()[:4], False)

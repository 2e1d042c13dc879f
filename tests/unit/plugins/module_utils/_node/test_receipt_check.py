# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program of the fast path as such: what it trusts, what it makes of odd receipts, and how it asks a real machine."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import os
import pathlib
import subprocess
import sys
import time
import types
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import receipt_check, system_bus
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import receipt_path, signature
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt_check import Different, Live, answer, job, seal, trusted
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt_program import program_source
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.launchctl import parse_job
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost
from ansible_collections.metalfleet.gpustack.tests.unit.fast_paths import MemoryLive
from ansible_collections.metalfleet.gpustack.tests.unit.properties import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_800_000_000.0
SALT = b"salt"
HEADS = (b"version 1", b"taken 1799999000", b"salt salt", b"wanted " + seal(SALT, b"w"))
PROGRAM = program_source()
IS_ROOT = os.geteuid() == 0


def receipt(*lines: bytes, heads: t.Sequence[bytes] = HEADS, magic: bytes = receipt_check.MAGIC + b" /usr/bin/python3") -> bytes:
    return b"\n".join([magic, *heads, *lines, b"end", b""])


def verify(text: bytes, host: MemoryHost | None = None, max_age_seconds: float = 3600.0, by_content: bool = False) -> tuple[int, bytes]:
    return receipt_check.verify(text, (b"w", b"1", max_age_seconds, by_content), NOW, MemoryLive(host or MemoryHost()))


def report(text: bytes, **options: t.Any) -> bytes:
    host = MemoryHost(system="Linux", files={"/r/receipt": MemoryFile(text, mode=0o600)}, **options)
    return receipt_check.report(b"/r/receipt", (b"w", b"1", 3600.0, False), NOW, MemoryLive(host))


def test_a_receipt() -> None:
    assert verify(receipt(b"result {}")) == (1000, b"{}")
    assert report(receipt(b"result {}")) == b"ok 1000 {}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "the receipt is of another format"),
        (receipt(b"result {}", magic=b"metalfleet receipt 1 /usr/bin/python3"), "the receipt is of another format"),
        (receipt(b"result {}")[:-1], "the receipt is of another format"),
        (receipt(b"result {}") + b"more\n", "the receipt is of another format"),
        (receipt(), "the receipt has no result"),
        (receipt(b"result {}", b"new kind of line"), "the receipt has a line of an unknown kind (before kind of line)"),
        (receipt(b"result {}", b""), "the receipt has a line of an unknown kind (before )"),
        (receipt(b"result {}", b"gap why"), "why"),
        (receipt(b"result {}", heads=[b"version 2", *HEADS[1:]]), "the receipt is of release 2"),
        (receipt(b"result {}", heads=[*HEADS[:3], b"wanted " + seal(SALT, b"v")]), "what is wanted of the node is not what the receipt"),
        (receipt(b"result {}", heads=[*HEADS[:2], b"salt other", HEADS[3]]), "what is wanted of the node is not what the receipt"),
        # A line of the receipt is never taken for one of its heads.
        (receipt(b"result {}", heads=HEADS[1:]), "the receipt cannot be checked (KeyError: b'version')"),
        (receipt(b"file 1 2 /x", b"result {}"), "/x is not as it was"),
        (receipt(b"content abc", b"result {}"), "is not as it was"),
        (receipt(b"result {}", heads=[HEADS[0], b"taken x", *HEADS[2:]]), "the receipt cannot be checked (ValueError"),
    ],
)
def test_whatever_is_odd_is_a_difference(text: bytes, why: str) -> None:
    told = report(text).decode()
    assert told.startswith("no ")
    assert why in told


def test_what_cannot_be_looked_at_is_a_difference() -> None:
    text = receipt(b"content abc /proc/7/environ", b"result {}")
    files = {"/r/receipt": MemoryFile(text, mode=0o600), "/proc/7/environ": b"A=1\0"}
    host = MemoryHost(system="Linux", files=files, unreadable=["/proc/7/environ"])
    told = receipt_check.report(b"/r/receipt", (b"w", b"1", 3600.0, False), NOW, MemoryLive(host))
    assert told == b"no the receipt cannot be checked (HostError: /proc/7/environ cannot be read: Permission denied)"
    assert report(receipt(b"ask plain abc no-such-program", b"result {}")).startswith(b"no the receipt cannot be checked (")


@pytest.mark.parametrize(
    ("taken", "max_age_seconds", "counts"),
    [
        (NOW, 3600.0, True),
        (NOW - 3599, 3600.0, True),
        (NOW - 3600, 3600.0, False),
        (NOW - 3600, 3601.0, True),
        (NOW, 0.0, False),
        # The clock is set right now and then; a receipt of tomorrow is another matter.
        (NOW + 60, 3600.0, True),
        (NOW + 61, 3600.0, False),
    ],
)
def test_how_old_a_receipt_may_be(taken: float, max_age_seconds: float, counts: bool) -> None:
    text = receipt(b"result {}", heads=[HEADS[0], b"taken %d" % int(taken), *HEADS[2:]])
    if counts:
        assert verify(text, max_age_seconds=max_age_seconds)[0] == max(0, int(NOW - taken))
    else:
        why = "hours ahead, so the clock was set back$" if taken > NOW else "hours old, and counts for"
        with pytest.raises(Different, match=why):
            verify(text, max_age_seconds=max_age_seconds)


def test_the_seal() -> None:
    assert seal(b"a", b"b") == hashlib.sha256(b"ab").hexdigest().encode()


def test_the_seal_where_python_has_no_sha256_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_sha2", "_sha256"):
        monkeypatch.setitem(sys.modules, name, None)
    assert seal(b"a", b"b") == hashlib.sha256(b"ab").hexdigest().encode()


# Whom it trusts.


@pytest.mark.parametrize(
    ("path", "change", "is_trusted"),
    [
        ("/var/lib/metalfleet/receipt", {}, True),
        ("/var/lib/metalfleet/receipt", {"uid": 501}, False),
        ("/var/lib/metalfleet/receipt", {"mode": 0o640}, False),
        ("/var/lib/metalfleet/receipt", {"mode": 0o604}, False),
        ("/var/lib/metalfleet/receipt", {"target": "/tmp/receipt"}, False),
        ("/var/lib/metalfleet", {"mode": 0o770}, False),
        ("/var/lib/metalfleet", {"mode": 0o702}, False),
        ("/var/lib/metalfleet", {"mode": 0o755}, True),
        ("/var/lib/metalfleet", {"uid": 501}, False),
        ("/var/lib", {"mode": 0o777}, False),
        ("/var", {"uid": 501}, False),
        ("/", {"mode": 0o777}, False),
    ],
)
def test_a_receipt_that_others_could_have_written_is_not_trusted(path: str, change: dict[str, t.Any], is_trusted: bool) -> None:
    host = MemoryHost(system="Linux", files={"/var/lib/metalfleet/receipt": MemoryFile(receipt(b"result {}"), mode=0o600)})
    if path in host.files:
        for name, value in change.items():
            setattr(host.files[path], name, value)

    odd = path

    class Odd(MemoryLive):
        def status(self, path: bytes) -> t.Any:
            found = super().status(path)
            if path.decode() == odd and odd not in host.files:
                found.st_mode = 0o040000 | change.get("mode", 0o755)
                found.st_uid = change.get("uid", 0)
            return found

    assert trusted(Odd(host), b"/var/lib/metalfleet/receipt") is is_trusted
    told = receipt_check.report(b"/var/lib/metalfleet/receipt", (b"w", b"1", 3600.0, False), NOW, Odd(host))
    assert told == (b"ok 1000 {}" if is_trusted else b"no the receipt could have been written by others than root")


@pytest.mark.parametrize(
    ("links", "odd", "is_trusted"),
    [
        ({"/var": "private/var"}, {}, True),
        ({"/var": "/private/var"}, {}, True),
        ({"/var": "./private/./var/"}, {}, True),
        ({"/var": "private/other/../var"}, {}, True),
        ({"/var": "private/other/./../var"}, {}, True),
        ({"/var": "../private/var"}, {}, True),
        ({"/var": "private/var"}, {"/private": {"st_uid": 501}}, False),
        ({"/var": "private/var"}, {"/private": {"st_mode": 0o040777}}, False),
        ({"/var": "private/var"}, {"/private/var": {"st_mode": 0o040777}}, False),
        ({"/var": "private/other/../var"}, {"/private/other": {"st_mode": 0o040777}}, False),
        # One link after another, of which a user has made the last.
        ({"/var": "one", "/one": "/private/two", "/private/two": "var"}, {}, True),
        ({"/var": "one", "/one": "/private/two", "/private/two": "var"}, {"/private/two": {"st_uid": 501}}, False),
        ({"/var": "one", "/one": "var"}, {}, False),
    ],
)
def test_where_links_above_the_receipt_lead_counts(links: dict[str, str], odd: dict[str, dict[str, int]], is_trusted: bool) -> None:
    """Whoever may write a folder that a link leads through may put another one in its place."""

    class Linked(receipt_check.Live):
        def status(self, path: bytes) -> t.Any:
            name = path.decode()
            kind = 0o100600 if name.endswith("/receipt") else 0o120777 if name in links else 0o040755
            return types.SimpleNamespace(**{"st_mode": kind, "st_uid": 0, **odd.get(name, {})})

        def target(self, path: bytes) -> bytes:
            return links[path.decode()].encode()

    assert trusted(Linked(), b"/var/db/metalfleet/receipt") is is_trusted


def test_a_folder_in_place_of_the_receipt() -> None:
    host = MemoryHost(system="Linux", files={"/r/receipt/x": b""})
    assert trusted(MemoryLive(host), b"/r/receipt") is False


# What it keeps of `launchctl print`.

NOISE = [
    "\tforks = 7",
    "\truns = 3",
    "\t\tstate = active",
    "\tactive count = 2",
    "",
    "}",
    "x",
    "\t",
    "\tresource coalition = {",
    "\tenvironment",
]
LINES = st.one_of(
    st.sampled_from([
        *NOISE,
        "\tstate = running", "\tstate = not running", "\tpid = 7", "\tpath = /x", "\texit timeout = 5", "\tlast exit code = (never exited)",
        "\tlast terminating signal = Killed: 9", "\tlast exit reason = JETSAM", "\tenvironment = {", "\tinherited environment = {",
        "\tdefault environment => {", "\tglobal environment => {", "\tcontroller-supplied environment = {", "\t}", "\t\tA => 1", "\t\tB =>",
        "\t\tGGML_METAL_NO_RESIDENCY => 1", "second line of a value", "\tx => = {", "\tstate => {", "\tpid = x = {",
    ]),
    st.text("\t =>{}ab\n", max_size=12),
)  # fmt: skip


@PROPERTY
@given(st.lists(LINES, max_size=25))
def test_what_is_kept_of_a_job_says_all_that_is_read_of_it(lines: list[str]) -> None:
    text = "\n".join(["system/ai.gpustack = {", *lines])
    kept = job(text.encode()).decode()
    assert dataclasses.replace(parse_job(kept), warnings=()) == dataclasses.replace(parse_job(text), warnings=())


def test_what_counts_forks_is_not_kept() -> None:
    text = (
        b"x = {\n\tstate = running\n\tforks = 7\n\tspawn role = {\n\t\tstate = x\n\t}\n\tenvironment = {\n\t\tA => 1\n\t}\n\tpid = 7\n}\n"
    )
    assert job(text) == b"\tstate = running\n\tenvironment = {\n\t\tA => 1\n\t}\n\tpid = 7"
    assert answer(b"job", 0, text, b"e") == b"0\0" + job(text) + b"\0e"
    assert answer(b"plain", 1, text, b"") == b"1\0" + text + b"\0"
    assert answer(b"lines", 0, b"b\na\n", b"") == answer(b"lines", 0, b"a\nb\n", b"") != answer(b"lines", 0, b"a\n", b"")


# On a real machine.


def test_a_real_machine(tmp_path: pathlib.Path) -> None:
    live, host = Live(), Host()
    path = tmp_path / "file"
    path.write_bytes(b"x" * 200_000)
    found = host.status(str(path))
    assert found is not None
    signed = [b"file " + signature(found) + b" " + os.fsencode(path), b"none " + os.fsencode(tmp_path / "none")]
    text = receipt(*signed, b"there /proc", b"result {}")
    assert receipt_check.verify(text, (b"w", b"1", 3600.0, False), NOW, live) == (1000, b"{}")
    assert live.read(os.fsencode(path)) == path.read_bytes()
    assert list(live.names(os.fsencode(tmp_path))) == [b"file"]
    path.chmod(0o600)
    with pytest.raises(Different, match="is not as it was"):
        receipt_check.verify(text, (b"w", b"1", 3600.0, False), NOW, live)


@pytest.mark.parametrize(
    "argv",
    [["sh", "-c", "env; pwd; echo error >&2; exit 3"], ["/bin/sh", "-c", "kill -9 $$"], ["cat"], ["sh", "-c", "yes | head -c 300000"]],
)
def test_the_same_answers_as_those_that_the_module_has(argv: list[str]) -> None:
    said = Host().run(argv)
    assert Live().run([[word.encode() for word in argv]]) == [(said.rc, said.stdout.encode(), said.stderr.encode())]


def test_commands_run_at_once() -> None:
    start = time.monotonic()
    assert Live().run([[b"sleep", b"0.5"]] * 4) == [(0, b"", b"")] * 4
    assert time.monotonic() - start < 1.5


@pytest.mark.parametrize("has_openssl", [True, False])
def test_digests(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, has_openssl: bool) -> None:
    if not has_openssl:
        monkeypatch.setitem(sys.modules, "_hashlib", None)
    path = tmp_path / "file"
    for size in (0, 1, 3 << 20):
        path.write_bytes(b"x" * size)
        assert Live().digest(os.fsencode(path)).decode() == hashlib.sha256(path.read_bytes()).hexdigest() == Host().sha256(str(path))


def test_what_a_disk_returns(tmp_path: pathlib.Path) -> None:
    """The digest is looked at where content is asked for, and only there: the signature is that of a file which is as it was."""
    path = tmp_path / "file"
    path.write_bytes(b"as it was")
    sealed = receipt_check.seal(SALT, hashlib.sha256(b"as it was").hexdigest().encode())
    text = receipt(b"digest " + sealed + b" " + os.fsencode(path), b"result {}")
    for by_content in (False, True):
        assert receipt_check.verify(text, (b"w", b"1", 3600.0, by_content), NOW, Live()) == (1000, b"{}")
    path.write_bytes(b"as it is ")
    assert receipt_check.verify(text, (b"w", b"1", 3600.0, False), NOW, Live()) == (1000, b"{}")
    with pytest.raises(Different, match=f"^{path} holds something else than it did$"):
        receipt_check.verify(text, (b"w", b"1", 3600.0, True), NOW, Live())


def test_a_command_that_is_gone() -> None:
    with pytest.raises(Different, match="no-such-program is gone"):
        Live().run([[b"no-such-program"]])


def test_an_answer_without_end() -> None:
    with pytest.raises(Different, match="longer than anything of its kind"):
        Live().read(b"/dev/zero")


def test_no_descriptor_is_left_open(tmp_path: pathlib.Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _time in range(3):
        Live().run([[b"true"], [b"true"]])
        Live().read(b"/proc/self/status")
    assert len(os.listdir("/proc/self/fd")) == before


# As it is sent.


def send(call: str, python: str = sys.executable) -> subprocess.CompletedProcess[bytes]:
    program = f"{PROGRAM}\n\nmain({call})\nposix._exit(0)\n"
    return subprocess.run([python, "-I", "-S", "-"], input=program.encode(), check=False, capture_output=True, timeout=60)


def test_the_program_as_it_is_sent() -> None:
    """Where no receipt is: this machine's own would have to be root's."""
    if os.path.exists(receipt_path(Host())):
        pytest.skip("this machine has a receipt")
    done = send("'mark', 'w', '1', 3600.0, False")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\nmark no there is no receipt\n", b"")


def test_a_report_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    def write(_descriptor: int, data: bytes) -> int:
        written.append(data[:5])
        return len(written[-1])

    monkeypatch.setattr(receipt_check, "report", lambda *_arguments: b"ok 1 {\n}")
    # The machine is not asked, the alarm is that of this process.
    monkeypatch.setitem(sys.modules, "_signal", types.SimpleNamespace(SIG_DFL=0, SIGALRM=14, alarm=lambda _seconds: 0, signal=lambda *_: 0))
    monkeypatch.setattr(receipt_check, "posix", types.SimpleNamespace(uname=lambda: types.SimpleNamespace(sysname="Darwin"), write=write))
    receipt_check.main("mark", "w", "1", 5.0, False)
    assert b"".join(written) == b"\nmark ok 1 { }\n"


def test_it_imports_nothing_that_costs() -> None:
    """Neither now nor by accident later: modules that are part of the interpreter, and what digests need, when they are needed."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(PROGRAM)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    # Not there: a part of the program already.
    names -= {"ansible_collections.metalfleet.gpustack.plugins.module_utils._node.system_bus"}
    assert names == {"__future__", "posix", "sys", "typing", "_sha2", "_sha256", "_hashlib", "hashlib", "_signal", "time", "_socket"}
    check = "import sys; before = set(sys.modules); exec(compile(sys.stdin.read(), 'x', 'exec')); print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", check], input=PROGRAM, check=True, text=True, capture_output=True)
    assert set(ast.literal_eval(done.stdout)) <= {"__future__", "posix"}


def test_the_two_files_of_the_program_share_no_names() -> None:
    """Or one of them would mean something else in the program than in the module."""
    names = []
    for module in (system_bus, receipt_check):
        tree = ast.parse(pathlib.Path(str(module.__file__)).read_text(encoding="utf-8"))
        found = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
        names.append(found | {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)})
    assert names[0] & names[1] == {"TYPE_CHECKING"}
    assert PROGRAM.count("from __future__") == 1


def hurried(more: str) -> subprocess.CompletedProcess[bytes]:
    """The program with short time limits."""
    program = PROGRAM.replace("_ALARM_SECONDS = 20", "_ALARM_SECONDS = 1").replace("_LAST_SECONDS = 5", "_LAST_SECONDS = 1")
    program += f"\n{more}\nmain('m', 'w', '1', 1.0, False)\n"
    return subprocess.run([sys.executable, "-I", "-S", "-"], input=program.encode(), check=False, capture_output=True, timeout=20)


def test_a_machine_that_hangs_in_spite_of_everything_ends_the_program() -> None:
    waits = "from time import sleep\ndef report(*_):\n  try: sleep(30)\n  except Different: sleep(30)"
    done = hurried(waits)
    assert (done.returncode, done.stdout) == (-14, b"")


def test_a_command_that_hangs_is_said_and_ended(tmp_path: pathlib.Path) -> None:
    """With what it started: a service manager that hangs would have a process more for each run."""
    pids = tmp_path / "pids"
    script = f"sleep 1000 & echo $$ $! > {pids}; wait"
    ask = f"Live.status = lambda *_: Live().run([[b'true'], [b'/bin/sh', b'-c', {script.encode()!r}]])"
    done = hurried(ask)
    assert (done.returncode, done.stdout) == (0, b"\nm no the node did not answer within 1 seconds\n")
    left = [int(pid) for pid in pids.read_text().split()]
    assert len(left) == 2
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in left):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_commands_that_were_started_beside_one_that_is_gone_are_ended() -> None:
    before = children()
    with pytest.raises(Different, match="no-such-program is gone"):
        Live().run([[b"sleep", b"1000"], [b"no-such-program"]])
    assert children() == before


def children() -> list[str]:
    return pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()

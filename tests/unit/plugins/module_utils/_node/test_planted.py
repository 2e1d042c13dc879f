# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a local user may have planted, on a real file system: links, FIFOs, folders that others may write, a receipt of their own."""

from __future__ import annotations

import os
import pathlib
import shutil
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import journal, pending, receipt_check, transaction
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.environment import Environment, Sources
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.exposure import exposure
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_state import Desired
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, GpustackError, HostError

USER = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@pytest.fixture
def base(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of nobody but us, in which each test makes its own."""
    assert exposure(f"{tmp_path}/x") == ""
    return tmp_path


def folder(path: pathlib.Path, mode: int, uid: t.Optional[int] = None) -> pathlib.Path:
    path.mkdir(parents=True)
    path.chmod(mode)
    if uid is not None:
        os.chown(path, uid, uid)
    return path


# Who else could put something else at a path.


def test_a_folder_that_everybody_may_write(base: pathlib.Path) -> None:
    open_folder = folder(base / "open", 0o777)
    assert exposure(f"{open_folder}/file") == f"everybody may write the folder {open_folder}"
    inner = folder(open_folder / "inner", 0o755)
    assert exposure(f"{inner}/file") == f"everybody may write the folder {open_folder}"


def test_as_in_tmp_a_folder_of_roots_is_safe_and_a_file_is_not(base: pathlib.Path) -> None:
    sticky = folder(base / "sticky", 0o1777)
    assert exposure(f"{sticky}/file") == f"everybody may write the folder {sticky}"
    assert exposure(f"{folder(sticky / 'inner', 0o700)}/file") == ""


@as_root
def test_a_folder_of_a_user_and_of_a_group(base: pathlib.Path) -> None:
    theirs = folder(base / "theirs", 0o755, USER)
    assert exposure(f"{theirs}/file") == f"the folder {theirs} belongs to the user {USER}"
    shared = folder(base / "shared", 0o775)
    os.chown(shared, 0, USER)
    assert exposure(f"{shared}/file") == f"the group {USER} may write the folder {shared}"
    # wheel on macOS, of which nobody but root is.
    os.chown(shared, 0, 0)
    assert exposure(f"{shared}/file") == ""
    sticky = folder(base / "sticky", 0o1777)
    assert exposure(f"{folder(sticky / 'x', 0o755, USER)}/file") == f"the folder {sticky}/x belongs to the user {USER}"


@as_root
def test_links_count_by_their_owner_and_by_where_they_lead(base: pathlib.Path) -> None:
    safe, theirs = folder(base / "safe", 0o755), folder(base / "theirs", 0o755, USER)
    (base / "good").symlink_to("safe/../safe/./file")
    assert exposure(f"{base}/good") == ""
    (base / "bad").symlink_to(theirs / "file")
    assert exposure(f"{base}/bad") == f"the folder {theirs} belongs to the user {USER}"
    planted = base / "planted"
    planted.symlink_to(safe)
    os.chown(planted, USER, USER, follow_symlinks=False)
    assert exposure(f"{planted}/file") == f"the link {planted} belongs to the user {USER}"


def test_a_link_that_leads_to_itself(base: pathlib.Path) -> None:
    (base / "a").symlink_to("b")
    (base / "b").symlink_to("a")
    assert exposure(f"{base}/a") in (f"the link {base}/a leads to itself", f"the link {base}/b leads to itself")


def test_where_nothing_is_the_folders_above_decide(base: pathlib.Path) -> None:
    assert exposure(f"{base}/none/none/file") == ""
    (base / "file").write_text("")
    assert exposure(f"{base}/file/below") == ""
    assert Host().exposure(f"{folder(base / 'open', 0o777)}/none/file") == f"everybody may write the folder {base}/open"


# The environment file.


def environment(path: pathlib.Path, follow: bool) -> Environment:
    return Environment(Host(), Sources(str(path), follow), Desired({"A": "1"}, ("A=1",)))


@pytest.mark.parametrize("leads_to", ["shadow", "none", "gpustack"])
def test_a_link_in_place_of_the_file_is_refused_and_nothing_written(base: pathlib.Path, leads_to: str) -> None:
    (base / "shadow").write_text("root:secret\n")
    path = base / "gpustack"
    path.symlink_to(leads_to)
    with pytest.raises(BadInputError, match="is a symbolic link to"):
        environment(path, follow=False).plan()
    assert (base / "shadow").read_text() == "root:secret\n"
    assert not (base / "none").exists()
    assert os.readlink(path) == leads_to


def test_a_link_that_leads_to_itself_is_not_followed(base: pathlib.Path) -> None:
    path = base / "gpustack"
    path.symlink_to("gpustack")
    with pytest.raises(BadInputError, match=f"^{path} is not managed, .*: the link {path} leads to itself; "):
        environment(path, follow=True).plan()


@as_root
def test_a_link_is_followed_only_where_nobody_else_can_turn_it(base: pathlib.Path) -> None:
    target = folder(base / "safe", 0o755) / "file"
    target.write_text("B=2\n")
    path = base / "gpustack"
    path.symlink_to(target)
    assert [step.path for step in environment(path, follow=True).plan().steps] == [str(target)]
    os.chown(path, USER, USER, follow_symlinks=False)
    with pytest.raises(BadInputError, match=f"^{path} is not managed, .*: the link {path} belongs to the user {USER}; "):
        environment(path, follow=True).plan()
    os.chown(path, 0, 0, follow_symlinks=False)
    os.chown(target.parent, USER, USER)
    with pytest.raises(BadInputError, match=f"^{path} is not managed, .*: the folder {target.parent} belongs to the user {USER}; "):
        environment(path, follow=True).plan()
    assert target.read_text() == "B=2\n"


def test_a_file_in_a_folder_that_everybody_may_write_is_left_alone(base: pathlib.Path) -> None:
    path = folder(base / "default", 0o777) / "gpustack"
    path.write_text("B=2\n")
    with pytest.raises(BadInputError, match=f": everybody may write the folder {path.parent}; make it root's alone"):
        environment(path, follow=False).plan()


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_file_is_refused_without_waiting(base: pathlib.Path, kind: str) -> None:
    path = base / "gpustack"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = pathlib.Path("/dev/null")
    with pytest.raises(GpustackError, match=f"^{path} is not "):
        environment(path, follow=False).plan()


# The folder with what the collection remembers.


@pytest.fixture
def state(base: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Where it lies in these tests."""
    path = base / "lib" / "metalfleet"
    for module in (pending, journal, transaction):
        monkeypatch.setattr(module, "state_folder", lambda _host: str(path))
    return path


def test_a_folder_of_our_own_is_used(state: pathlib.Path) -> None:
    with transaction.locked(Host(), 0.0):
        assert (state / "lock").exists()
    assert state.stat().st_mode & 0o777 == 0o700
    (state / "pending-restart.json").write_text("{}")
    assert pending.read_pending(Host()) is None


@pytest.mark.parametrize("which", ["", ".."])
def test_a_folder_that_others_may_write_is_not_used(state: pathlib.Path, which: str) -> None:
    state.mkdir(parents=True)
    odd = state if not which else state.parent
    odd.chmod(0o777)
    with (
        pytest.raises(HostError, match=f"^{state} is not used, .*: everybody may write the folder {odd}; "),
        transaction.locked(Host(), 0.0),
    ):
        pass
    assert list(state.iterdir()) == []


def test_nothing_is_made_below_a_folder_that_others_may_write(state: pathlib.Path) -> None:
    state.parent.mkdir()
    state.parent.chmod(0o777)
    with pytest.raises(HostError, match="is not used"), transaction.locked(Host(), 0.0):
        pass
    assert not state.exists()


@as_root
@pytest.mark.parametrize("name", ["journal.json", "previous.json", "pending-restart.json"])
def test_what_a_user_has_written_there_is_not_believed(state: pathlib.Path, name: str) -> None:
    folder(state, 0o700, USER)
    # Undoing this would put a file of theirs into the place of root's.
    (state / name).write_text('{"records": [{"path": "/etc/shadow", "backup": "/home/user/shadow", "kind": "file"}]}')
    reader = {"journal.json": journal.read_journal, "previous.json": journal.read_previous}.get(name, pending.read_pending)
    with pytest.raises(HostError, match=f": the folder {state} belongs to the user {USER}; "):
        reader(Host())


@as_root
def test_a_link_of_a_user_in_place_of_the_folder_is_not_followed(state: pathlib.Path, base: pathlib.Path) -> None:
    target = folder(base / "theirs", 0o755)
    state.parent.mkdir()
    state.symlink_to(target)
    os.chown(state, USER, USER, follow_symlinks=False)
    with pytest.raises(HostError, match=f": the link {state} belongs to the user {USER}; "), transaction.locked(Host(), 0.0):
        pass
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("name", ["journal.json", "pending-restart.json"])
def test_a_fifo_in_place_of_a_record_keeps_nobody_waiting(state: pathlib.Path, name: str) -> None:
    state.mkdir(parents=True)
    os.mkfifo(state / name)
    with pytest.raises(HostError, match=f"^{state}/{name} is not a regular file$"):
        (journal.read_journal if name == "journal.json" else pending.read_pending)(Host())


# A receipt that a user has written.

SALT = b"0" * 32
WANTED = b"a" * 64
FORGED = b"\n".join(
    [
        receipt_check.MAGIC + b" /usr/bin/python3",
        *(b"version 1", b"taken 1799999000", b"salt " + SALT, b"wanted " + receipt_check.seal(SALT, WANTED)),
        *(b'result {"changed": false}', b"end", b""),
    ]
)


def told(path: pathlib.Path) -> bytes:
    return receipt_check.report(bytes(path), (WANTED, b"1", 3600.0, False), 1_800_000_000.0, receipt_check.Live())


@as_root
def test_a_forged_receipt_is_never_trusted() -> None:
    # Not below the temporary folder, which everybody may write.
    above = pathlib.Path("/var/lib") / f"metalfleet-test-{os.getpid()}"
    receipt = folder(above, 0o700) / "receipt"
    not_trusted = b"no the receipt could have been written by others than root"
    try:
        receipt.write_bytes(FORGED)
        receipt.chmod(0o600)
        # It is what root would have written, so that nothing but its owner and those of its folders tells it from that.
        assert told(receipt) == b'ok 1000 {"changed": false}'
        for path, uid, mode in ((receipt, USER, 0o600), (receipt, 0, 0o620), (receipt, 0, 0o602), (above, USER, 0o700), (above, 0, 0o777)):
            os.chown(path, uid, 0)
            path.chmod(mode)
            assert told(receipt) == not_trusted, (path, uid, mode)
            os.chown(path, 0, 0)
            path.chmod(0o600 if path == receipt else 0o700)
        # The way to it through a link of root's, and through a folder that everybody may write.
        elsewhere = folder(above / "elsewhere", 0o755)
        (elsewhere / "way").symlink_to("..")
        assert told(elsewhere / "way" / "receipt") == b'ok 1000 {"changed": false}'
        elsewhere.chmod(0o777)
        assert told(elsewhere / "way" / "receipt") == not_trusted
        shutil.rmtree(elsewhere)
        receipt.rename(above / "other")
        receipt.symlink_to("other")
        assert told(receipt) == not_trusted
        receipt.unlink()
        os.mkfifo(receipt, 0o600)
        assert told(receipt) == not_trusted
    finally:
        for path in above.iterdir():
            path.unlink()
        above.rmdir()


@as_root
def test_a_user_cannot_put_a_receipt_into_the_folder() -> None:
    above = folder(pathlib.Path("/var/lib") / f"metalfleet-test-{os.getpid()}", 0o700)
    try:
        pid = os.fork()
        if pid == 0:
            os.setgid(USER)
            os.setuid(USER)
            try:
                (above / "receipt").write_bytes(FORGED)
            except PermissionError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert told(above / "receipt") == b"no there is no receipt"
    finally:
        above.rmdir()

# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Property lists, units, and what is remembered, planted as links or in folders that others may write, on a real file system."""

from __future__ import annotations

import json
import os
import pathlib
import plistlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import installation, journal, pending, release_store, transaction
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import wired_limit as wired_limits
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.environment import Environment, Sources
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.file_tree import restore
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult, Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation, find_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_box import LlamaBox
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.previous import Previous
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.steps import RestorePath
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.wired_limit import WiredLimit
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import environment_plan
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_state import Desired
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import Hardware
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.health import Health
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_request import parse_request
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit import LIMIT_MIB_NAME, Request

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")

USER = 12345
VARIABLE = "GGML_METAL_NO_RESIDENCY"
PLIST = plistlib.dumps({"Label": "ai.gpustack", "ProgramArguments": ["/bin/true"], "EnvironmentVariables": {VARIABLE: "1"}})
# What makes each file one that has to be written.
FAULTY = {
    "plist": PLIST,
    "unit": f"[Service]\nEnvironment={VARIABLE}=1\n".encode(),
    "read": f"{VARIABLE}=1\n".encode(),
}
EXPOSURES = ("everybody may write the folder", "belongs to the user")


@pytest.fixture
def base(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder of nobody but us, in which units may be edited."""
    monkeypatch.setattr(environment_plan, "_EDITABLE_UNIT_FOLDERS", (f"{tmp_path}/",))
    return tmp_path


def expose(folder: pathlib.Path, how: str) -> None:
    """Let others write there."""
    if how == EXPOSURES[0]:
        folder.chmod(0o777)
    else:
        os.chown(folder, USER, USER)


def give_link(link: pathlib.Path, target: pathlib.Path, uid: int = USER) -> None:
    link.symlink_to(target)
    os.chown(link, uid, uid, follow_symlinks=False)


def tree(folder: pathlib.Path) -> t.Dict[str, t.Tuple[int, int, str]]:
    """Everything below a folder: mode, owner, content or target."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes().hex() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_uid, content)
    return found


# What the service's environment comes from.


def environment(base: pathlib.Path, which: str, path: pathlib.Path) -> Environment:
    main = base / "gpustack"
    sources = {
        "plist": Sources(str(main), False, plist_path=str(path)),
        "unit": Sources(str(main), False, unit_paths=(str(path),)),
        "read": Sources(str(main), False, read_paths=(str(path),)),
    }
    return Environment(Host(), sources[which], Desired({}, (), remove_residency=True))


@pytest.mark.parametrize("how", EXPOSURES)
@pytest.mark.parametrize("which", sorted(FAULTY))
def test_a_file_in_a_folder_that_others_may_write_is_not_written(base: pathlib.Path, which: str, how: str) -> None:
    path = base / "theirs" / "file"
    path.parent.mkdir()
    path.write_bytes(FAULTY[which])
    # Safe, it is written.
    assert [step.path for step in environment(base, which, path).plan().steps] == [str(path)]
    expose(path.parent, how)
    before = tree(base)
    with pytest.raises(BadInputError, match=f"^{path} is not managed, since others than root could put another file there: .*{how}"):
        environment(base, which, path).plan()
    assert tree(base) == before


@pytest.mark.parametrize("which", sorted(FAULTY))
def test_a_link_is_followed_only_where_nobody_else_can_turn_it(base: pathlib.Path, which: str) -> None:
    target = base / "target"
    target.write_bytes(FAULTY[which])
    path = base / "link"
    # As the Desktop package has it.
    give_link(path, target, uid=0)
    assert [step.path for step in environment(base, which, path).plan().steps] == [str(target)]
    os.chown(path, USER, USER, follow_symlinks=False)
    with pytest.raises(BadInputError, match=f"^{path} is not managed, .*: the link {path} belongs to the user {USER}; "):
        environment(base, which, path).plan()
    assert target.read_bytes() == FAULTY[which]


@pytest.mark.parametrize("which", sorted(FAULTY))
def test_where_nothing_has_to_be_written_nothing_is_refused(base: pathlib.Path, which: str) -> None:
    path = base / "theirs" / "file"
    path.parent.mkdir(mode=0o777)
    path.write_bytes(FAULTY[which].replace(VARIABLE.encode(), b"OTHER"))
    path.parent.chmod(0o777)
    assert environment(base, which, path).plan().steps == ()


# The property list of the service: launchd starts nothing from one that is not root's alone, and neither do we.


class Mac(Host):
    """This machine, taken for a Mac; answers: to commands."""

    def __init__(self, answers: t.Mapping[str, str]) -> None:
        self._answers = answers
        self.ran: t.List[t.Tuple[str, ...]] = []

    def system(self) -> str:
        return "Darwin"

    def run(self, argv: t.Sequence[str], timeout_seconds: float = 30.0) -> CommandResult:
        del timeout_seconds
        self.ran.append(tuple(argv))
        return CommandResult(0, self._answers.get(argv[0], ""), "")


@pytest.mark.parametrize(("uid", "mode"), [(USER, 0o644), (0, 0o664), (0, 0o646)])
@pytest.mark.parametrize("is_link", [False, True])
def test_what_a_planted_property_list_names_is_not_looked_for(
    base: pathlib.Path, monkeypatch: pytest.MonkeyPatch, uid: int, mode: int, is_link: bool
) -> None:
    path = base / "ai.gpustack.plist"
    monkeypatch.setattr(installation, "usual_plist_path", lambda _label: str(path))
    file = base / "planted" if is_link else path
    file.write_bytes(PLIST)
    if is_link:
        path.symlink_to(file)
    assert find_installation(Mac({})).program == "/bin/true"
    os.chown(file, uid, uid)
    file.chmod(mode)
    found = find_installation(Mac({}))
    assert (found.program, found.bin_dir, found.third_party_bin) == (None, None, None)
    (warning,) = found.warnings
    assert warning.startswith(f"{file} has the owner {uid} and the mode {mode:04o}, so launchd refuses to load it")


# The wired limit's own daemon, and those of others.

M3_ULTRA = Hardware(is_apple_silicon=True, is_virtual=False, memory_bytes=512 * 1024**3, macos_version="26.1")


@pytest.fixture
def daemons(base: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder of property lists."""
    folder = base / "LaunchDaemons"
    folder.mkdir()
    monkeypatch.setattr(wired_limits, "FOLDER", str(folder))
    monkeypatch.setattr(wired_limits, "PLIST_PATH", str(folder / "ours.plist"))
    return folder


def limit(live: int = 0, **request: t.Any) -> WiredLimit:
    return WiredLimit(Mac({"/usr/sbin/sysctl": f"{LIMIT_MIB_NAME}: {live}\n"}), M3_ULTRA, Request(**request))


@pytest.mark.parametrize("how", EXPOSURES)
@pytest.mark.parametrize("present", [True, False])
def test_no_daemon_is_put_where_others_could_exchange_it(daemons: pathlib.Path, how: str, present: bool) -> None:
    if not present:
        (daemons / "ours.plist").write_bytes(b"theirs")
    assert limit(present=present).plan().steps
    expose(daemons, how)
    before = tree(daemons)
    with pytest.raises(BadInputError, match=f"^{daemons}/ours.plist is not managed, .*{how}"):
        limit(present=present).plan()
    assert tree(daemons) == before


def test_a_link_in_place_of_the_folder_is_not_followed(daemons: pathlib.Path, base: pathlib.Path) -> None:
    daemons.rename(base / "elsewhere")
    give_link(daemons, base / "elsewhere")
    with pytest.raises(BadInputError, match=f": the link {daemons} belongs to the user {USER}; "):
        limit().plan()


@pytest.mark.parametrize("leads_to", ["file", "none", "ours.plist", "folder"])
def test_a_link_in_place_of_the_daemon_is_replaced_and_not_followed(daemons: pathlib.Path, base: pathlib.Path, leads_to: str) -> None:
    outside = base / "outside"
    outside.mkdir()
    (outside / "file").write_text("root:secret\n")
    (outside / "folder").mkdir()
    path = daemons / "ours.plist"
    path.symlink_to(path if leads_to == "ours.plist" else outside / leads_to)
    before = tree(outside)
    for number, step in enumerate(limit().plan().steps):
        step.save(Host(), str(base / f"backup-{number}"))
        step.apply(Host())
    assert tree(outside) == before
    assert not path.is_symlink()
    assert (path.stat().st_uid, path.stat().st_mode & 0o7777) == (0, 0o644)
    assert plistlib.loads(path.read_bytes())["Label"] == "org.metalfleet.wired-limit"


def test_a_daemon_of_a_user_decides_only_which_of_the_two_limits_is_taken_back(daemons: pathlib.Path) -> None:
    path = daemons / "ours.plist"
    evil = ["/usr/sbin/sysctl", f"{LIMIT_MIB_NAME}=77", "kern.securelevel=1", "vm.swap_enabled=0"]
    path.write_bytes(plistlib.dumps({"Label": "org.metalfleet.wired-limit", "ProgramArguments": evil, "RunAtLoad": True}))
    os.chown(path, USER, USER)
    resource = limit(live=77, present=False)
    planned = resource.plan()
    assert [(change["where"], change["after"]) for change in planned.changes if change["resource"] == "sysctl"] == [(LIMIT_MIB_NAME, 0)]
    assert [change["action"] for change in planned.changes if change["resource"] != "sysctl"] == ["removed"]


def test_what_lies_among_the_daemons_of_others_keeps_nobody_waiting_and_is_not_shown(daemons: pathlib.Path, base: pathlib.Path) -> None:
    secret = base / "shadow"
    secret.write_text("root:secret\n")
    secret.chmod(0o600)
    os.mkfifo(daemons / "fifo.plist")
    (daemons / "device.plist").symlink_to("/dev/zero")
    (daemons / "folder.plist").mkdir()
    (daemons / "none.plist").symlink_to(base / "none")
    (daemons / "itself.plist").symlink_to("itself.plist")
    give_link(daemons / "shadow.plist", secret)
    with (daemons / "huge.plist").open("wb") as file:
        file.truncate(1 << 40)
    (daemons / "other.plist").write_text("<string>iogpu.wired_limit_mb=1</string>")
    planned = limit().plan()
    named = {name for name in os.listdir(daemons) if any(f"{daemons}/{name} " in warning for warning in planned.warnings)}
    assert named == {"fifo.plist", "device.plist", "folder.plist", "itself.plist", "huge.plist", "other.plist"}
    assert "secret" not in repr(planned)


# What is remembered.


@pytest.fixture
def state(base: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder in which it lies in these tests."""
    path = base / "lib" / "metalfleet"
    path.mkdir(parents=True, mode=0o700)
    for module in (pending, journal, transaction):
        monkeypatch.setattr(module, "state_folder", lambda _host: str(path))
    return path


def remembered(state: pathlib.Path, path: pathlib.Path) -> bytes:
    """A record by which a rollback would put the backup in the place of the path."""
    record = {"path": str(path), "kind": "file", "backup": f"{state}/undo-1/0", "folders": []}
    health = Health(None).as_dict()
    fields = {"started": 1, "health": health, "pending": None, "needs_restart": False, "rolls_back": 0, "restarting": False}
    return json.dumps({**fields, "undoing": "", "records": [record], "left": {}}).encode()


def plant_link(state: pathlib.Path, base: pathlib.Path, content: bytes) -> None:
    (base / "home").write_bytes(content)
    give_link(state / "previous.json", base / "home")


def plant_link_of_roots(state: pathlib.Path, base: pathlib.Path, content: bytes) -> None:
    home = base / "home"
    home.mkdir()
    (home / "file").write_bytes(content)
    os.chown(home, USER, USER)
    (state / "previous.json").symlink_to(home / "file")


def plant_file(state: pathlib.Path, _base: pathlib.Path, content: bytes) -> None:
    (state / "previous.json").write_bytes(content)
    os.chown(state / "previous.json", USER, USER)


def plant_open_file(state: pathlib.Path, _base: pathlib.Path, content: bytes) -> None:
    (state / "previous.json").write_bytes(content)
    (state / "previous.json").chmod(0o666)


def plant_in_open_folder(state: pathlib.Path, _base: pathlib.Path, content: bytes) -> None:
    (state / "previous.json").write_bytes(content)
    state.chmod(0o777)


@pytest.mark.parametrize("plant", [plant_link, plant_link_of_roots, plant_file, plant_open_file, plant_in_open_folder])
@pytest.mark.parametrize("check_mode", [True, False])
def test_a_planted_record_is_not_rolled_back_to(
    state: pathlib.Path,
    base: pathlib.Path,
    check_mode: bool,
    plant: t.Callable[[pathlib.Path, pathlib.Path, bytes], None],
) -> None:
    path = base / "shadow"
    path.write_text("root's")
    (state / "undo-1").mkdir()
    (state / "undo-1" / "0").write_text("a user's")
    plant(state, base, remembered(state, path))
    options = transaction.Options(lock_wait_seconds=0.0)
    with pytest.raises(HostError, match=f"^{state} is not used, since others than root could write there: "):
        transaction.carry_out(Host(), Installation("none", None, "gpustack.service"), [Previous(Host(), True)], options, check_mode)
    assert path.read_text() == "root's"


def test_a_record_of_our_own_is_believed(state: pathlib.Path, base: pathlib.Path) -> None:
    path = base / "file"
    path.write_text("new")
    (state / "undo-1").mkdir()
    (state / "undo-1" / "0").write_text("old")
    (state / "previous.json").write_bytes(remembered(state, path))
    (state / "previous.json").chmod(0o600)
    assert Previous(Host(), True).plan().steps == (RestorePath(str(path), f"{state}/undo-1/0", "file"),)


@pytest.mark.parametrize("how", [*EXPOSURES, "the link"])
def test_a_backup_that_others_could_have_exchanged_is_not_put_back(state: pathlib.Path, base: pathlib.Path, how: str) -> None:
    path = base / "file"
    path.write_text("now")
    backups = state / "undo-1"
    if how == "the link":
        (base / "home").mkdir()
        give_link(backups, base / "home")
    else:
        backups.mkdir()
        expose(backups, how)
    (backups / "0").write_text("a user's")
    with pytest.raises(HostError, match=f"^{path} is not put back, since {backups}/0 could be from others than root: .*{how}"):
        restore(str(path), str(backups / "0"), "file")
    assert path.read_text() == "now"


def test_a_link_in_place_of_a_backup_is_not_followed(state: pathlib.Path, base: pathlib.Path) -> None:
    path = base / "file"
    path.write_text("now")
    (state / "undo-1").mkdir()
    (base / "secret").write_text("secret")
    (state / "undo-1" / "0").symlink_to(base / "secret")
    with pytest.raises(HostError, match=f"^{path} cannot be put back: "):
        restore(str(path), f"{state}/undo-1/0", "file")
    assert path.read_text() == "now"


# What is kept of llama-box.


@pytest.mark.parametrize("uid", [0, USER])
def test_a_planted_record_of_llama_box_names_no_path(state: pathlib.Path, base: pathlib.Path, uid: int) -> None:
    (base / "home").write_text('{"placed": {"/etc/shadow": {}}}')
    os.chown(base / "home", USER, USER)
    give_link(state / "llama-box.json", base / "home", uid)
    request = parse_request({"state": "absent", "sealed": False})
    resource = LlamaBox(Host(), Installation("none", None, "gpustack.service"), request, str(state))
    with pytest.raises(HostError, match=f"{state} is not used, since others than root could write there: "):
        resource.plan()


@pytest.mark.parametrize("how", [*EXPOSURES, "the link"])
def test_nothing_is_unpacked_where_others_could_exchange_it_before_it_is_run(state: pathlib.Path, base: pathlib.Path, how: str) -> None:
    folder = state / "llama-box"
    if how == "the link":
        (base / "home").mkdir()
        give_link(folder, base / "home")
    else:
        folder.mkdir()
        expose(folder, how)
    store = release_store.ReleaseStore(Host(), str(folder), release_store.Source(kind="folder", folder=str(base)))
    release = release_store.Release("v0.0.139", "linux-amd64-avx2", "https://example.com/x.zip", "0" * 64, 1, {"llama-box": "0" * 64})
    with pytest.raises(BadInputError, match=f"{folder}/.unpacking is not managed, .*{how}"):
        store.obtain(release)
    program = base / "llama-box"
    program.write_text("x")
    with pytest.raises(BadInputError, match=f"{folder}/builtin is not managed, .*{how}"):
        store.adopt("builtin", str(program))
    assert tree(folder) == {}

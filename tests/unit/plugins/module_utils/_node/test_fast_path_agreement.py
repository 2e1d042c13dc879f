# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fast path never says that all is well where the module does not, and says word for word what the module does where it is.

Nodes are in memory here; the Molecule scenario fast_path does the same on hosts.
"""

from __future__ import annotations

import copy
import dataclasses
import plistlib
import posixpath
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import state_folder
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import receipt_path
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError
from ansible_collections.metalfleet.gpustack.tests.mirror import archives
from ansible_collections.metalfleet.gpustack.tests.unit import fake_kernel, whole_nodes
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import LABEL, PLIST, UNIT_FILE
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile
from ansible_collections.metalfleet.gpustack.tests.unit.fast_paths import compare, receipt_of
from ansible_collections.metalfleet.gpustack.tests.unit.llama_box_nodes import (
    ARCHIVES,
    BIN_DIR,
    BUILTIN_0_6,
    BUILTIN_0_7,
    SITE,
    THIRD_PARTY,
)
from ansible_collections.metalfleet.gpustack.tests.unit.whole_nodes import (
    FILE,
    KINDS,
    RESIDENCY,
    VERSION,
    Node,
    NodeMac,
    bring,
    everything,
)

ALL_KINDS = pytest.mark.parametrize("kind", list(KINDS))
CONFIG = "/etc/gpustack/config.yaml"
BUILTIN = {"mac": BUILTIN_0_6, "linux": BUILTIN_0_6, "mac_0_7": BUILTIN_0_7}
PINNED = {"mac": f"{BIN_DIR}/llama-box_{VERSION}", "linux": f"{BIN_DIR}/llama-box_{VERSION}"}
PINNED["mac_0_7"] = f"{BIN_DIR}/llama-box/static/llama-box-{VERSION}/llama-box"


def options_of(host: Node) -> dict[str, t.Any]:
    return everything(host, environment={"variables": {"HF_ENDPOINT": "https://hub.example.com"}, "secrets": {"HF_TOKEN": "canary"}})


def settled(kind: str, **attributes: t.Any) -> Node:
    """A node in its state, with a configuration file."""
    host = KINDS[kind]()
    host.__dict__.update(attributes)
    whole_nodes.write(host, CONFIG, b"port: 80\n")
    path = PLIST if isinstance(host, NodeMac) else UNIT_FILE
    edit(host, path, b"<string>start</string>", f"<string>start</string><string>--config-file={CONFIG}</string>".encode())
    edit(host, path, b"gpustack start\n", f"gpustack start --config-file {CONFIG}\n".encode())
    host.start_anew()
    bring(host, **options_of(host))
    assert CONFIG in receipt_of(host).files  # type: ignore[union-attr]
    return host


def edit(host: Node, path: str, old: bytes, new: bytes) -> None:
    whole_nodes.write(host, path, host.files[path].content.replace(old, new), host.files[path].mode)


def module(host: Node) -> dict[str, t.Any]:
    """What the module would say, without doing anything."""
    try:
        return {**bring(host, check_mode=True, **options_of(host)), "applied": True}
    except GpustackError as exc:
        return {"failed": True, "msg": str(exc)}


def agree(host: Node) -> bool:
    """Whether the fast path says that all is well; then the module has to say the very same."""
    fast = compare(host, **options_of(host))
    if isinstance(fast, str):
        return False
    assert fast["changed"] is False
    assert fast == module(host)
    return True


def kept(host: Node) -> t.Callable[[], None]:
    """Puts back every file."""
    files, folders, modes = dict(host.files), set(host.folders), dict(host.folder_modes)
    copies = {path: copy.copy(file) for path, file in files.items()}

    def put_back() -> None:
        for path, file in files.items():
            file.__dict__.update(copies[path].__dict__)
        host.files, host.folders, host.folder_modes = dict(files), set(folders), dict(modes)

    return put_back


def changed(file: MemoryFile) -> t.Iterator[tuple[str, MemoryFile | None]]:
    """A file after all that may happen to one. An inode that stays is one that is written in place."""
    late = file.ctime_ns or file.inode + 1
    if file.target is None:
        other = bytes([byte ^ 1 for byte in file.content]) or b"x"
        # What rsync, tar and touch -r leave: as before in all that a program can set.
        yield "other content, with its size and time put back", dataclasses.replace(file, content=other, ctime_ns=late)
        yield "longer", dataclasses.replace(file, content=file.content + b"\n", ctime_ns=late)
        yield "emptied", dataclasses.replace(file, content=b"", ctime_ns=late)
    for mode in (0o777, 0o400):
        yield f"mode {mode:o}", dataclasses.replace(file, mode=mode, ctime_ns=late)
    yield "another owner", dataclasses.replace(file, uid=501, ctime_ns=late)
    yield "another group", dataclasses.replace(file, gid=20, ctime_ns=late)
    yield "the same, written anew", dataclasses.replace(file, inode=file.inode + 100_000)
    yield "a link elsewhere", MemoryFile(target="/tmp/else", inode=file.inode + 100_000)
    yield "gone", None


@ALL_KINDS
def test_a_node_where_nothing_has_changed(kind: str) -> None:
    host = settled(kind)
    assert agree(host)
    host.clock += 3600
    assert agree(host)
    assert compare(host, max_age_seconds=3600.0, **options_of(host)) == "the receipt is 1.0 hours old, and counts for 1.0"


@ALL_KINDS
def test_every_file_changed_in_every_way(kind: str) -> None:
    """Every one of the host, whether anybody is known to look at it or not."""
    host = settled(kind)
    put_back = kept(host)
    own = f"{state_folder(host)}/"  # type: ignore[arg-type]
    fast, slow = [], 0
    for path in sorted(host.files):
        if path.startswith(("/proc/", ARCHIVES, f"{own}undo-", f"{own}receipt")):
            continue
        for what, file in changed(host.files[path]):
            if file is None:
                host.remove(path)
            else:
                host.files[path] = file
            if agree(host):
                fast.append((path, what))
            else:
                slow += 1
            put_back()
    assert agree(host)
    assert slow > 120
    # What decides nothing: other files of GPUStack, and those of our own with which nothing is decided.
    harmless = (f"{own}previous.json", f"{own}lock", f"{own}llama-box/", f"{SITE}/gpustack/__init__.py", "/usr/local/bin/")
    assert [one for one in fast if not one[0].startswith(harmless)] == []


@ALL_KINDS
def test_a_new_file_in_every_folder(kind: str) -> None:
    host = settled(kind)
    put_back = kept(host)
    found = receipt_of(host)
    assert found is not None
    # Names that mean something where they are, and one that means nothing.
    names = [
        "gpustack-9.9.9.dist-info",
        "x.conf",
        "x.plist",
        "libggml.so",
        "llama-box",
        "llama-box-default",
        "site-packages",
        "python3.99",
        "x",
    ]
    for folder in sorted(host.folders):
        if folder.startswith(("/proc", state_folder(host), ARCHIVES)):  # type: ignore[arg-type]
            continue
        for name in names:
            if posixpath.join(folder, name) not in {*host.files, *host.folders}:
                host.put(posixpath.join(folder, name), b"[Service]\nEnvironment=A=1\n", 0o644)
                agree(host)
                put_back()
    for path, signed in found.files.items():
        if signed is None:
            host.put(path, b"{}", 0o644)
            assert not agree(host), path
            put_back()
    assert agree(host)


Plant = t.Callable[[t.Any, str], None]


def plist_variable(host: NodeMac, name: str, value: str) -> None:
    content = plistlib.loads(host.files[PLIST].content)
    content["EnvironmentVariables"][name] = value
    whole_nodes.write(host, PLIST, plistlib.dumps(content), 0o600)


def load_with(host: t.Any, _kind: str) -> None:
    """Somebody has started the service with the variable, and put everything else back since."""
    path = PLIST if isinstance(host, NodeMac) else FILE
    file = host.files[path]
    if isinstance(host, NodeMac):
        plist_variable(host, RESIDENCY, "1")
    else:
        whole_nodes.write(host, path, file.content + f"{RESIDENCY}=1\n".encode())
    host.start_anew()
    host.files[path] = file
    assert host.environment()[RESIDENCY] == "1"


def put_back_program(host: t.Any, kind: str) -> None:
    """GPUStack has downloaded its own again, and size and time are the same by chance or by somebody's doing."""
    program = host.files[BUILTIN[kind]]
    other = archives.program("v0.0.144", whole_nodes.BUILDS[host.system()][0])
    host.files[BUILTIN[kind]] = dataclasses.replace(program, content=other[: len(program.content)].ljust(len(program.content)), ctime_ns=9)


def another_version(host: t.Any, _kind: str) -> None:
    path = next(path for path in host.files if path.endswith("METADATA"))
    folder = posixpath.dirname(path)
    content = host.files[path].content
    host.remove(folder)
    host.put(
        f"{posixpath.dirname(folder)}/gpustack-2.0.1.dist-info/METADATA", content.replace(b"0.6.2", b"2.0.1").replace(b"0.7.1", b"2.0.1")
    )


DRIFTS: dict[str, Plant] = {
    "the line in the file": lambda host, kind: edit(host, FILE, b"HF_ENDPOINT", f"{RESIDENCY}=1\nHF_ENDPOINT".encode()),
    "our value in the file": lambda host, kind: edit(host, FILE, b"hub.example", b"hub.elsewhere"),
    "a secret in the file": lambda host, kind: edit(host, FILE, b"canary", b"canari"),
    "a foreign line": lambda host, kind: edit(host, FILE, b"HF_ENDPOINT", b"OTHER=1\nHF_ENDPOINT"),
    "only the running service": load_with,
    "the builtin program, with size and time put back": put_back_program,
    "the pinned program is gone": lambda host, kind: host.remove(PINNED[kind]),
    "the link for RPC servers leads elsewhere": lambda host, kind: host.link(
        f"{posixpath.dirname(BUILTIN[kind])}/llama-box-rpc-server", "/tmp/else"
    ),
    "versions.json": lambda host, kind: host.put(f"{THIRD_PARTY}/versions.json", b'{"llama-box": "v0.0.1"}', 0o644),
    "config.yaml": lambda host, kind: host.put(CONFIG, b"port: 80\nbin_dir: /srv/bin\n", 0o644),
    "another GPUStack": another_version,
    "a second GPUStack beside it": lambda host, kind: host.put(f"{SITE}/gpustack-2.0.1.dist-info/METADATA", b"Version: 2.0.1\n"),
    "another program": lambda host, kind: host.put("/venv/bin/gpustack", b"#!/other/bin/python\n"),
    "a journal": lambda host, kind: host.put(f"{state_folder(host)}/journal.json", b"{}", 0o600),
    "a restart that is due": lambda host, kind: host.put(f"{state_folder(host)}/pending-restart.json", b"{}", 0o600),
    "our record": lambda host, kind: host.remove(f"{state_folder(host)}/llama-box.json"),
    "the service runs anew": lambda host, kind: host.start_anew(),
}
MAC_DRIFTS: dict[str, Plant] = {
    "the property list": lambda host, kind: plist_variable(host, RESIDENCY, "1"),
    "our value in the property list": lambda host, kind: plist_variable(host, "HF_ENDPOINT", "http://else"),
    "a foreign value in the property list": lambda host, kind: plist_variable(host, "OTHER", "1"),
    "launchctl setenv": lambda host, kind: host.domain.update({RESIDENCY: "0"}),
    "the service is disabled": lambda host, kind: host.disabled.update({LABEL: True}),
    "the service has died and was started again": lambda host, kind: host.respawn(),
    "the job is gone": lambda host, kind: host.run(["launchctl", "bootout", f"system/{LABEL}"]),
    "launchd does not answer": lambda host, kind: host.forced.update({"print": [64] * 100}),
    "the wired limit": lambda host, kind: host.kernel.update({fake_kernel.LIMIT: 1000}),
    "the wired limit is macOS's own": lambda host, kind: host.kernel.update({fake_kernel.LIMIT: 0}),
    "the wired collector": lambda host, kind: host.kernel.update({fake_kernel.COLLECTOR: 0}),
    "the boot daemon is gone": lambda host, kind: host.remove(fake_kernel.PLIST),
    "the boot daemon is disabled": lambda host, kind: host.disable_daemon(),
    "another daemon sets the limit": lambda host, kind: host.put(
        "/Library/LaunchDaemons/com.example.limit.plist", b"<plist>iogpu.wired_limit_mb=1</plist>", 0o644
    ),
}
LINUX_DRIFTS: dict[str, Plant] = {
    "the unit": lambda host, kind: edit(host, UNIT_FILE, b"[Service]", f"[Service]\nEnvironment={RESIDENCY}=1".encode()),
    "a new drop-in": lambda host, kind: host.put(f"{UNIT_FILE}.d/x.conf", f"[Service]\nEnvironment={RESIDENCY}=1\n".encode(), 0o644),
    "a drop-in for all services": lambda host, kind: host.put(
        "/run/systemd/system/service.d/x.conf", b"[Service]\nEnvironment=A=1\n", 0o644
    ),
    "systemctl set-environment": lambda host, kind: host.manager.update({RESIDENCY: ""}),
    "the process has changed its environment": lambda host, kind: edit(
        host, f"/proc/{host._pid}/environ", b"PATH=", f"{RESIDENCY}=1\0PATH=".encode()
    ),
    "the process has written over its environment": lambda host, kind: host.put(f"/proc/{host._pid}/environ", b"gpustack: master\0", 0o400),
    "systemd has read other files": lambda host, kind: host.properties.update({"FragmentPath": "/run/systemd/system/gpustack.service"}),
    "the unit is masked": lambda host, kind: host.properties.update({"LoadState": "masked"}),
    "the service does not run": lambda host, kind: host.properties.update({"ActiveState": "failed", "MainPID": "0"}),
    "the pid is that of another run": lambda host, kind: host.properties.update({"InvocationID": "f" * 32}),
    "systemd does not answer": lambda host, kind: host.forced.update({"show": [CommandResult(1, "", "Failed to connect to bus\n")] * 100}),
    "a driver was installed": lambda host, kind: host.put("/usr/bin/nvidia-smi", b"", 0o755),
    "another boot": lambda host, kind: host.put("/proc/sys/kernel/random/boot_id", b"other\n", 0o444),
}
# What the module only looks at, and what it leaves as it is.
FOREIGN = {
    *("a foreign line", "a foreign value in the property list", "our record", "the service runs anew", "a restart that is due"),
    *("the service has died and was started again", "the service is disabled", "config.yaml", "a journal", "another boot"),
    *("the process has written over its environment", "another daemon sets the limit", "a driver was installed"),
    *("a drop-in for all services", "the pid is that of another run", "systemd has read other files", "the unit is masked"),
    *("the service does not run", "another program", "the job is gone", "a second GPUStack beside it"),
}


def drifts() -> t.Iterator[tuple[str, str]]:
    for kind in KINDS:
        for name in {**DRIFTS, **(LINUX_DRIFTS if kind == "linux" else MAC_DRIFTS)}:
            yield kind, name


@pytest.mark.parametrize(("kind", "name"), list(drifts()))
def test_drift(kind: str, name: str) -> None:
    host = settled(kind)
    assert agree(host)
    {**DRIFTS, **MAC_DRIFTS, **LINUX_DRIFTS}[name](host, kind)
    assert not agree(host), name
    found = module(host)
    # It is drift indeed, unless it is one of those that do not matter, or not in every place.
    assert found.get("failed") or found["changed"] or found["warnings"] or name in FOREIGN, name
    if found.get("failed") or name == "another program":
        return
    done = bring(host, **options_of(host))
    assert done["changed"] == found["changed"]
    host.clock += 1.0
    # Many are seen for the first time now, and with the same result from then on.
    bring(host, **options_of(host))
    if not done["restart_pending"]:
        assert agree(host), compare(host, **options_of(host))


@pytest.mark.parametrize("name", [*DRIFTS, *LINUX_DRIFTS])
def test_drift_where_there_is_no_system_bus(name: str) -> None:
    host = settled("linux", bus=False)
    assert len(receipt_of(host).asked) == 2  # type: ignore[union-attr]
    assert agree(host)
    {**DRIFTS, **LINUX_DRIFTS}[name](host, "linux")
    assert not agree(host), name


def test_a_bus_that_comes_and_goes() -> None:
    host = settled("linux")
    assert agree(host)
    for bus, asked in ((False, 2), (True, 0)):
        host.bus = bus  # type: ignore[union-attr]
        # What is asked by commands goes on being asked so.
        assert agree(host) is bus
        host.clock += 1.0
        assert bring(host, **options_of(host))["changed"] is False
        assert len(receipt_of(host).asked) == asked  # type: ignore[union-attr]
        assert agree(host)


@ALL_KINDS
def test_a_model_that_has_the_variable_by_itself(kind: str) -> None:
    """The module does not look at it; the role does, after the module has run."""
    host = settled(kind)
    if isinstance(host, NodeMac):
        host.commands[("ps", "-axwwE", "-o", "pid=,command=")] = CommandResult(0, f"99 /x/llama-box A=1 {RESIDENCY}=0 B=1\n", "")
    else:
        host.put(f"/proc/{host._pid}/task/{host._pid}/children", b"99 ", 0o444)
        host.put("/proc/99/environ", f"A=1\0{RESIDENCY}=0\0".encode(), 0o400)
        host.put("/proc/99/task/99/children", b"", 0o444)
    assert not agree(host)
    assert module(host)["changed"] is False


@ALL_KINDS
def test_the_variable_in_a_place_that_the_module_does_not_govern(kind: str) -> None:
    """The role fails for it at each run."""
    host = settled(kind)
    whole_nodes.write(host, CONFIG, f"port: 80\n{RESIDENCY}: 1\n".encode())
    for _time in range(2):
        assert bring(host, **options_of(host))["changed"] is False
        assert compare(host, **options_of(host)) == f"{RESIDENCY} is present in {CONFIG}"
    options = options_of(host)
    options["environment"]["residency_variable"] = "unmanaged"
    bring(host, **options)
    assert isinstance(compare(host, **options), dict)


def test_other_wishes() -> None:
    host = settled("linux")
    options = options_of(host)
    others: list[dict[str, t.Any]] = [
        {**options, "environment": {**options["environment"], "secrets": {"HF_TOKEN": "other"}}},
        {**options, "environment": {"variables": {"HF_ENDPOINT": "https://hub.example.com"}}},
        {**options, "wired_limit": None},
        {**options, "restart": "nonsense"},
        {"environment": options["environment"]},
    ]
    for other in others:
        assert compare(host, **other) == "what is wanted of the node is not what the receipt is about"
    assert compare(host, version="0.9.0", **options) == "the receipt is of release 1.0.0"


def test_clock_tricks() -> None:
    """A clock that is set back neither makes a receipt young, nor hides what changed."""
    host = settled("linux")
    written = host.clock
    for seconds in (-3600.0, 24 * 3600.0, 10 * 365 * 24 * 3600.0):
        host.clock = written + seconds
        assert not agree(host)
    host.clock = written + 10.0
    assert agree(host)
    # A file of the time before the clock was set back, or of that of another machine.
    host.files[FILE].ctime_ns = int((host.clock + 1000) * 1e9) + 1
    bring(host, **options_of(host))
    assert compare(host, **options_of(host)) == f"{FILE} had only just been changed when the receipt was written"
    host.clock += 2000.0
    bring(host, **options_of(host))
    assert agree(host)


def test_a_file_that_is_changed_in_the_same_tick_as_it_was_read() -> None:
    """The kernel gives it the ctime that it has had already: no signature can tell."""
    host = settled("linux")
    host.files[FILE].ctime_ns = int(host.clock * 1e9) + 1
    assert bring(host, **options_of(host))["changed"] is False
    host.files[FILE].content = host.files[FILE].content.replace(b"canary", b"canari")
    assert not agree(host)


def test_a_receipt_of_others() -> None:
    host = settled("linux")
    for change in ({"uid": 1000}, {"mode": 0o644}, {"target": "/tmp/receipt"}):
        file = host.files[receipt_path(host)]  # type: ignore[arg-type]
        before = copy.copy(file)
        file.__dict__.update(change)
        assert not agree(host)
        file.__dict__.update(before.__dict__)
    assert agree(host)

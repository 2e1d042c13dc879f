# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All resources of a node at once: many kinds of drift, the same as the modules one by one, and the receipt."""

from __future__ import annotations

import contextlib
import json
import plistlib
import posixpath
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import state_folder
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.receipt import receipt_path, signature
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.systemd import PROPERTIES
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import (
    BadInputError,
    GpustackError,
    HostError,
    ServiceError,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import VIRTUAL_NAMES
from ansible_collections.metalfleet.gpustack.plugins.modules import environment, llama_box, node, wired_limit
from ansible_collections.metalfleet.gpustack.tests.mirror import archives
from ansible_collections.metalfleet.gpustack.tests.unit import fake_kernel, whole_nodes
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import LABEL, PLIST, UNIT, UNIT_FILE
from ansible_collections.metalfleet.gpustack.tests.unit.fast_paths import Receipt, compare, receipt_of
from ansible_collections.metalfleet.gpustack.tests.unit.llama_box_nodes import (
    ARCHIVES,
    BIN_DIR,
    BUILTIN_0_6,
    BUILTIN_0_7,
    SITE,
    THIRD_PARTY,
)
from ansible_collections.metalfleet.gpustack.tests.unit.whole_nodes import (
    AUTO_MIB,
    BUILDS,
    FILE,
    KINDS,
    RESIDENCY,
    VERSION,
    Node,
    NodeLinux,
    NodeMac,
    bring,
    everything,
    state_of,
    validated,
)

ALL_KINDS = pytest.mark.parametrize("kind", list(KINDS))
PINNED = {"mac": f"{BIN_DIR}/llama-box_{VERSION}", "linux": f"{BIN_DIR}/llama-box_{VERSION}"}
PINNED["mac_0_7"] = f"{BIN_DIR}/llama-box/static/llama-box-{VERSION}/llama-box"
BUILTIN = {"mac": BUILTIN_0_6, "linux": BUILTIN_0_6, "mac_0_7": BUILTIN_0_7}
# Resource and action of each change that the drift calls for.
LLAMA_BOXES = [("llama_box", "installed"), ("llama_box", "downgraded")]
WIRED_LIMIT = [("sysctl", "set"), ("sysctl", "set"), ("boot_daemon", "written"), ("boot_daemon", "enabled")]
FILE_CHANGES = [("environment_file", action) for action in ("set", "removed", "removed", "mode")]
MANAGER = [("manager_environment", "removed")]
DRIFTS = {
    "mac": [*LLAMA_BOXES, *WIRED_LIMIT, ("plist", "removed"), ("plist", "set"), *FILE_CHANGES, *MANAGER],
    "linux": [*LLAMA_BOXES, ("unit_file", "removed"), *FILE_CHANGES, *MANAGER],
}
DRIFTS["mac_0_7"] = DRIFTS["mac"]
NO_RECEIPT = "the next run looks at this node as if it were new, as its receipt cannot be kept"


def receipt(host: Node) -> Receipt | None:
    return receipt_of(host)


def signatures(host: Node, paths: t.Iterable[str]) -> dict[str, str | None]:
    """Of what is there now."""
    found = {path: host.status(path) for path in paths}
    return {path: None if status is None else signature(status).decode() for path, status in found.items()}


def start_with_residency(host: Node) -> None:
    """Somebody has started the service with the variable, and put everything else back since."""
    path = PLIST if isinstance(host, NodeMac) else FILE
    file = host.files[path]
    if isinstance(host, NodeMac):
        content = plistlib.loads(file.content)
        content["EnvironmentVariables"][RESIDENCY] = "1"
        whole_nodes.write(host, path, plistlib.dumps(content))
    else:
        whole_nodes.write(host, path, file.content + f"{RESIDENCY}=1\n".encode())
    host.start_anew()
    host.files[path] = file
    assert host.environment()[RESIDENCY] == "1"


def edit(host: Node, path: str, old: bytes, new: bytes) -> None:
    """Somebody replaces the old text by the new one, or appends that."""
    content = host.files[path].content
    whole_nodes.write(host, path, content.replace(old, new) if old else content + new, host.files[path].mode)


def drift_of_environment(host: Node) -> None:
    """Seven kinds of it; the service runs with the first three."""
    if isinstance(host, NodeMac):
        variable = f"<key>{RESIDENCY}</key>\n<string>1</string>\n<key>HF_ENDPOINT</key>".encode()
        edit(host, PLIST, b"<key>HF_ENDPOINT</key>", variable)
        host.domain[RESIDENCY] = "1"
    else:
        edit(host, UNIT_FILE, b"", f"Environment={RESIDENCY}=1\n".encode())
        host.manager[RESIDENCY] = "1"
    edit(host, FILE, b"", f"{RESIDENCY}=1\n".encode())
    host.start_anew()
    assert host.environment()[RESIDENCY] == "1"
    if isinstance(host, NodeMac):
        edit(host, PLIST, b"https://hub.example.com", b"http://else")
    edit(host, FILE, b"https://hub.example.com", b"http://else")
    edit(host, FILE, b"", f"export {RESIDENCY}=0\n".encode())
    host.files[FILE].mode = 0o640


def drift_of_the_rest(host: Node, kind: str) -> None:
    """Three kinds of it, and on a Mac four more."""
    host.put(BUILTIN[kind], archives.program("v0.0.144", BUILDS[host.system()][0]), 0o744)
    host.remove(f"{posixpath.dirname(BUILTIN[kind])}/llama-box-rpc-server")
    host.remove(PINNED[kind])
    if isinstance(host, NodeMac):
        host.kernel[fake_kernel.LIMIT] = 1000
        host.kernel[fake_kernel.COLLECTOR] = 0
        host.remove(fake_kernel.PLIST)
        host.disable_daemon()


def picture(host: Node) -> dict[str, t.Any]:
    """The state; of a property list what it says, as a taken out line leaves its line feed."""
    found = state_of(host)
    if PLIST in found:
        content, *others = found[PLIST]
        found[PLIST] = (plistlib.loads(content), *others)
    return found


@ALL_KINDS
def test_ten_kinds_of_drift_and_one_restart(kind: str) -> None:
    host = KINDS[kind]()
    bring(host, **everything(host))
    before = picture(host)
    drift_of_environment(host)
    drift_of_the_rest(host, kind)
    host.points = []
    announced = bring(host, check_mode=True, **everything(host))
    assert (host.stops, host.points) == (0, [])
    done = bring(host, **everything(host))
    assert (announced.pop("applied"), done.pop("applied")) == (False, True)
    assert announced.pop("health") is None
    assert done.pop("health")["sick"] == []
    assert announced == done
    assert [(change["resource"], change["action"]) for change in done["changes"]] == DRIFTS[kind]
    assert "the running service still has GGML_METAL_NO_RESIDENCY" in done["restart_reasons"]
    assert (done["changed"], done["restarted"], done["restart_pending"], done["warnings"], host.stops) == (True, True, False, [], 1)
    assert picture(host) == before
    assert RESIDENCY not in host.environment()
    assert host.environment()["HF_ENDPOINT"] == "https://hub.example.com"
    host.points = []
    again = bring(host, **everything(host))
    assert (again["changed"], again["changes"], again["diff"], again["restarted"], host.stops) == (False, [], [], False, 1)
    assert host.points == [f"write {receipt_path(host)}"]  # type: ignore[arg-type]


@ALL_KINDS
def test_an_untouched_node_is_not_restarted(kind: str) -> None:
    host = KINDS[kind]()
    bring(host, **everything(host))
    before, starts, calls = state_of(host), host.stops, len(host.calls)
    result = bring(host, **everything(host))
    assert (result["changed"], result["restarted"], result["restart_pending"], result["health"]) == (False, False, False, None)
    assert (state_of(host), host.stops) == (before, starts)
    looks = {"print", "print-disabled", "getenv", "show", "show-environment"}
    services = [call for call in host.calls[calls:] if call[0] in ("launchctl", "systemctl")]
    assert services
    assert [call for call in services if not looks.intersection(call)] == []


@ALL_KINDS
def test_the_same_as_the_modules_one_by_one(kind: str) -> None:
    """Files, modes, live values, and the sum of the changes."""
    host, other = KINDS[kind](), KINDS[kind]()
    for one in (host, other):
        whole_nodes.write(one, FILE, f"KEPT=1\n{RESIDENCY}=1\n".encode(), 0o640)
    options = everything(host)
    result = bring(host, **options)
    modules: list[tuple[str, t.Any, dict[str, t.Any]]] = [
        ("llama_box", llama_box, {"restart": "never"}),
        ("wired_limit", wired_limit, {}),
        ("environment", environment, {"restart": "now", "settle_seconds": 0.0}),
    ]
    changes: list[dict[str, t.Any]] = []
    for name, module, how in modules:
        spec = module.OPTIONS if name == "wired_limit" else module.ARGUMENT_SPEC
        part, _warnings = module.run(validated(spec, {**options[name], **how}), other, False)
        changes += part["changes"]
        assert part.items() >= result[name].items()
        last = part
    assert result["changes"] == changes
    assert state_of(host) == state_of(other)
    assert (host.stops, other.stops) == (1, 1)
    assert (host.environment(), host.is_up()) == (other.environment(), True)
    assert [result[key] for key in ("restarted", "restart_pending", "restart_reasons")] == [
        last[key] for key in ("restarted", "restart_pending", "restart_reasons")
    ]
    assert bring(other, **options)["changed"] is False


@pytest.mark.parametrize("name", ["llama_box", "wired_limit", "environment"])
def test_what_is_not_given_is_left_alone(name: str) -> None:
    host = NodeMac()
    before = state_of(host)
    options = everything(host)
    result = bring(host, settle_seconds=0.0, **{name: options[name]})
    governed = {"llama_box": (THIRD_PARTY, BIN_DIR), "wired_limit": (fake_kernel.PLIST, "kernel"), "environment": (FILE, PLIST)}
    after = state_of(host)
    touched = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    assert touched
    assert all(path.startswith(governed[name]) for path in touched), touched
    assert {key for key in governed if key in result} == {name}
    assert result["restarted"] is (name != "wired_limit")


def test_nothing_given_is_refused() -> None:
    host = NodeMac()
    with pytest.raises(BadInputError, match=r"^nothing is wanted of this node: say one or more of llama_box, wired_limit and environment$"):
        bring(host, restart="now")
    assert host.points == []


def test_an_empty_option_is_one() -> None:
    host = NodeMac(environment={RESIDENCY: "1"})
    result = bring(host, environment={}, wired_limit={}, settle_seconds=0.0)
    assert (RESIDENCY in host.environment(), host.kernel[fake_kernel.LIMIT], result["restarted"]) == (False, AUTO_MIB, True)


@ALL_KINDS
def test_check_mode_leaves_no_trace(kind: str) -> None:
    host = KINDS[kind]()
    files, folders = dict(host.files), set(host.folders)
    result = bring(host, check_mode=True, **everything(host))
    assert (result["changed"], result["applied"], result["restarted"]) == (True, False, True)
    assert (host.points, host.files.keys(), host.folders) == ([], files.keys(), folders)
    # Nor does it touch what a run has left.
    bring(host, **everything(host))
    left = host.files[receipt_path(host)]  # type: ignore[arg-type]
    host.points = []
    both: list[dict[str, t.Any]] = [everything(host), {"environment": {}}]
    for options in both:
        bring(host, check_mode=True, **options)
    assert (host.points, host.files[receipt_path(host)]) == ([], left)  # type: ignore[arg-type]


def test_check_mode_keeps_the_receipt_where_a_restart_is_pending() -> None:
    host = NodeMac()
    bring(host, **everything(host))
    start_with_residency(host)
    result = bring(host, check_mode=True, **everything(host, restart="never"))
    assert (result["restart_pending"], receipt(host) is None, host.points) == (True, False, [])


def test_what_is_odd_about_the_installation_is_told() -> None:
    host = NodeLinux()
    edit(host, UNIT_FILE, FILE.encode(), b"/etc/other")
    host.boot()
    odd = f"{UNIT} does not read {FILE}: it has no EnvironmentFile= line for it"
    assert odd in bring(host, environment={}, settle_seconds=0.0)["warnings"]
    assert odd in bring(host, wired_limit={})["warnings"]
    assert odd not in bring(host, environment={"path": "/etc/other"}, settle_seconds=0.0)["warnings"]


def test_what_is_doubtful_about_the_wanted_state_is_told() -> None:
    host = NodeMac()
    name = ("/usr/sbin/sysctl", *VIRTUAL_NAMES)
    host.mac.commands[name] = CommandResult(1, "", "")
    doubts = bring(host, environment={}, settle_seconds=0.0)["warnings"]
    assert len(doubts) == 1
    assert "virtual" in doubts[0]


def test_hardware_is_asked_for_once() -> None:
    """system_profiler takes seconds. The working set follows the limit, so it is asked for again where that was changed."""
    cases: list[tuple[dict[str, t.Any], int]] = [({"wired_limit": {}}, 2), ({"environment": {"variables": {"A": "1"}}}, 1)]
    for options, times in cases:
        host = NodeMac()
        assert bring(host, settle_seconds=0.0, **options)["changed"] is True
        assert len([call for call in host.calls if "system_profiler" in call[0]]) == times


def test_facts_are_those_of_afterwards() -> None:
    host = NodeMac()
    result = bring(host, wired_limit={})
    assert host.kernel[fake_kernel.LIMIT] == AUTO_MIB
    facts = result["ansible_facts"]["apple_silicon"]
    assert (facts["model_identifier"], facts["memory_bytes"]) == ("Mac15,14", 512 * 1024**3)
    assert compare(host, wired_limit={}) == {**bring(host, wired_limit={})}


# The receipt.


@ALL_KINDS
def test_what_a_receipt_says(kind: str) -> None:
    host = KINDS[kind]()
    done = bring(host, **everything(host))
    after_a_change = receipt(host)
    host.clock += 60.0
    again = bring(host, **everything(host))
    found = receipt(host)
    assert after_a_change is not None
    assert found is not None
    # Both looked at the same node, and each has a salt of its own.
    assert (after_a_change.files, after_a_change.asked.keys(), after_a_change.result) == (found.files, found.asked.keys(), found.result)
    for name in ("salt", "wanted"):
        assert after_a_change.heads[name] != found.heads[name]
    assert int(found.heads["taken"]) - int(after_a_change.heads["taken"]) == 60 == int(host.clock - int(after_a_change.heads["taken"]))
    assert signatures(host, found.files) == found.files
    assert {**again, "warnings": []} == found.result
    assert found.result["changed"] is False is not done["changed"]
    must = [FILE, PINNED[kind], BUILTIN[kind], f"{THIRD_PARTY}/versions.json", "/venv/bin/gpustack", f"{SITE}"]
    must += [PLIST, fake_kernel.PLIST] if isinstance(host, NodeMac) else [UNIT_FILE, f"{UNIT_FILE}.d"]
    must += [f"{state_folder(host)}/{name}" for name in ("journal.json", "pending-restart.json", "llama-box.json")]  # type: ignore[arg-type]
    assert set(must) <= found.files.keys()
    assert not [path for path in found.files if path.startswith(("/proc/7", ARCHIVES))]
    # What each run changes, or what decides nothing.
    own = [state_folder(host), receipt_path(host), f"{state_folder(host)}/previous.json"]  # type: ignore[arg-type]
    assert not set(own) & found.files.keys()
    asked = {" ".join(words.split()[:2]) for words in found.asked}
    assert asked == (
        {"launchctl print", "launchctl print-disabled", "launchctl getenv", "ps -o", f"/usr/sbin/sysctl {fake_kernel.LIMIT}"}
        if isinstance(host, NodeMac)
        else set()
    )
    on_the_bus = {f"Unit.{name}" for name in PROPERTIES.split(",")} if kind == "linux" else set()
    assert {f"Unit.{name.partition('.')[2]}" for name in found.bus} - {"Unit.Environment"} == on_the_bus
    assert ("Manager.Environment" in found.bus) is (kind == "linux")
    assert host.files[receipt_path(host)].mode == 0o600  # type: ignore[arg-type]


@ALL_KINDS
def test_every_file_that_is_read_is_signed(kind: str) -> None:
    """Also where it is read through links; and each of these, which may come to lead elsewhere."""
    host = KINDS[kind]()
    links: list[str] = []
    if kind == "mac":
        plist = {"Label": LABEL, "ProgramArguments": ["/usr/local/bin/gpustack", "start", "--config-file", "/etc/config.yaml"]}
        whole_nodes.write(host, PLIST, plistlib.dumps(plist))
        whole_nodes.write(host, "/srv/config.yaml", b"port: 80\n")
        host.link("/srv/config", "config.yaml")
        host.link("/etc/config.yaml", "/srv/config")
        links = ["/etc/config.yaml", "/srv/config"]
    if kind == "linux":
        whole_nodes.write(host, "/srv/environment", b"KEPT=1\n")
        host.link("/srv/link", "/srv/environment")
        host.link(FILE, "/srv/link")
        links = [FILE, "/srv/link"]
    options = everything(host)
    options["environment"]["follow"] = True
    bring(host, **options)
    read: set[str] = set()
    for name in ("read", "sha256"):
        original = getattr(host, name)
        setattr(host, name, lambda path, *rest, _original=original: [read.add(host.resolve(path)), _original(path, *rest)][1])
    assert bring(host, **options)["changed"] is False
    found = receipt(host)
    assert found is not None
    own = (f"{state_folder(host)}/", "/proc/")  # type: ignore[arg-type]
    governed = {path for path in read if not path.startswith(own)}
    assert {FILE if kind != "linux" else "/srv/environment", PINNED[kind], BUILTIN[kind]} <= governed
    assert {*governed, *links} <= found.files.keys()
    assert compare(host, **options) == bring(host, **options)
    assert kind != "mac" or "/srv/config.yaml" in governed


@ALL_KINDS
def test_a_restart_that_is_pending_leaves_no_receipt(kind: str) -> None:
    host = KINDS[kind]()
    for _time in range(2):
        assert bring(host, **everything(host, restart="never"))["restart_pending"] is True
        assert receipt(host) is None
    bring(host, **everything(host))
    assert receipt(host) is not None
    # Nothing but the running service is not as wanted.
    start_with_residency(host)
    result = bring(host, **everything(host, restart="never"))
    assert (result["changed"], result["restart_pending"], receipt(host)) == (False, True, None)


@ALL_KINDS
def test_a_run_that_fails_leaves_no_receipt_for_what_it_changed(kind: str) -> None:
    host = KINDS[kind]()
    bring(host, **everything(host))
    before = state_of(host)
    host.kills = lambda environment: "BROKEN" in environment
    with pytest.raises(ServiceError, match="everything that was changed was put back"):
        bring(host, **everything(host, environment={"variables": {"BROKEN": "1"}}))
    assert (state_of(host), receipt(host)) == (before, None)
    bring(host, **everything(host))
    assert receipt(host) is not None


def test_what_another_run_changes_before_the_receipt_is_written_does_not_match_it() -> None:
    """It works on the node as soon as this one has let go of it."""
    host = NodeMac()
    bring(host, **everything(host))
    lock = host.lock

    @contextlib.contextmanager
    def lock_and_change(path: str, holder: str, wait_seconds: float) -> t.Iterator[None]:
        with lock(path, holder, wait_seconds):
            yield
        whole_nodes.write(host, FILE, b"OTHER=1\n")

    host.lock = lock_and_change  # type: ignore[assignment, method-assign]
    assert bring(host, **everything(host))["changed"] is False
    found = receipt(host)
    assert found is not None
    assert found.files[FILE] != signatures(host, [FILE])[FILE]
    assert compare(host, **everything(host)) == f"{FILE} is not as it was"


def test_a_node_that_differs_after_all_leaves_no_receipt() -> None:
    """Somebody writes while the service settles, when what was planned is done."""
    host = NodeMac()
    pause = host.pause

    def write_and_pause(seconds: float) -> None:
        pause(seconds)
        whole_nodes.write(host, FILE, f"{RESIDENCY}=1\n".encode())

    host.pause = write_and_pause  # type: ignore[method-assign]
    assert bring(host, **everything(host, settle_seconds=5.0))["changed"] is True
    assert receipt(host) is None
    del host.pause  # type: ignore[method-assign]
    assert bring(host, **everything(host))["changed"] is True
    assert receipt(host) is not None


def test_a_restart_that_is_due_after_all_leaves_no_receipt() -> None:
    """Somebody has loaded the job with other files meanwhile."""
    host = NodeMac()
    remove = host.remove

    def remove_and_load(path: str) -> None:
        remove(path)
        if path.endswith("journal.json"):
            start_with_residency(host)

    host.remove = remove_and_load  # type: ignore[method-assign]
    assert bring(host, **everything(host))["changed"] is True
    assert receipt(host) is None


def test_a_node_without_a_service_has_a_receipt() -> None:
    host = NodeMac()
    host.remove(PLIST)
    for changed in (True, False):
        assert bring(host, wired_limit={})["changed"] is changed
        found = receipt(host)
        assert found is not None
        assert (found.files[PLIST], "/usr/sbin/sysctl -n kern.boottime" in found.asked) == (None, True)
        host.clock += 60.0
    assert compare(host, wired_limit={}) == bring(host, wired_limit={})
    # Another boot, and nothing else tells it.
    host.mac.boot_seconds += 60
    assert compare(host, wired_limit={}) == "`/usr/sbin/sysctl -n kern.boottime` says something else than it did"


def test_a_service_that_was_started_anew_meanwhile_is_not_taken_for_the_one_that_was_looked_at() -> None:
    host = NodeMac()
    bring(host, **everything(host))
    pid = host._pid
    run = host.run

    def run_and_respawn(argv: t.Sequence[str], timeout_seconds: float = 30.0) -> CommandResult:
        if argv[:2] == ["launchctl", "print-disabled"]:
            host.respawn()
        return run(argv, timeout_seconds)

    host.run = run_and_respawn  # type: ignore[method-assign]
    bring(host, **everything(host))
    assert host._pid != pid
    assert compare(host, **everything(host)) == f"`launchctl print system/{LABEL}` did not say the same twice"


def test_a_service_that_cannot_be_asked_leaves_no_receipt() -> None:
    host = NodeLinux()
    bring(host, **everything(host))
    failure = CommandResult(1, "", "Failed to connect to bus\n")
    host.forced["show"] = [failure] * 100
    result = bring(host, **everything(host, restart="never"))
    assert (result["changed"], receipt(host)) == (False, None)


@pytest.mark.parametrize("changes", [True, False])
def test_a_receipt_that_cannot_be_written_is_no_failure(changes: bool) -> None:
    host = NodeMac()
    if not changes:
        bring(host, **everything(host))
    host.unreadable.add(receipt_path(host))  # type: ignore[arg-type]
    result = bring(host, **everything(host))
    assert (result["changed"], result["restarted"]) == (changes, changes)
    assert result["warnings"] == [
        f"{NO_RECEIPT}: {receipt_path(host)} cannot be written: Read-only file system"  # type: ignore[arg-type]
    ]


def test_a_node_that_cannot_be_looked_at_again_was_changed_all_the_same() -> None:
    host = NodeMac()
    remove = host.remove

    def remove_and_hide(path: str) -> None:
        remove(path)
        if path.endswith("journal.json"):
            host.unreadable.add(FILE)

    host.remove = remove_and_hide  # type: ignore[method-assign]
    result = bring(host, **everything(host))
    assert (result["changed"], result["restarted"], receipt(host)) == (True, True, None)
    assert result["warnings"] == [
        f"{NO_RECEIPT}: {FILE} cannot be read: Permission denied",
        f"{RESIDENCY} is unknown, not absent, in {FILE}",
    ]


def test_a_service_that_cannot_be_asked_after_a_change_leaves_no_receipt() -> None:
    host = NodeLinux()
    remove = host.remove

    def remove_and_fail(path: str) -> None:
        remove(path)
        if path.endswith("journal.json"):
            host.forced["show"] = [CommandResult(1, "", "Failed to connect to bus\n")] * 100

    host.remove = remove_and_fail  # type: ignore[method-assign]
    result = bring(host, **everything(host))
    assert (result["changed"], result["restarted"], receipt(host)) == (True, True, None)


def test_a_receipt_that_cannot_be_removed_is_a_failure() -> None:
    """It would say that all is well."""
    host = NodeMac()
    bring(host, **everything(host))
    start_with_residency(host)
    remove = host.remove

    def keep(path: str) -> None:
        if path == receipt_path(host):  # type: ignore[arg-type]
            raise HostError(f"{path} cannot be removed: Operation not permitted")
        remove(path)

    host.remove = keep  # type: ignore[method-assign]
    with pytest.raises(HostError, match="cannot be removed"):
        bring(host, **everything(host, restart="never"))


def test_a_run_that_is_not_told_for_what_keeps_no_receipt() -> None:
    host = NodeMac()
    options = validated(node.ARGUMENT_SPEC, everything(host))
    node.bring_to_state(host, options, False)  # type: ignore[arg-type]
    assert receipt(host) is None
    bring(host, **everything(host))
    # Nor does it take away one that is as true as before.
    node.bring_to_state(host, options, False)  # type: ignore[arg-type]
    assert isinstance(compare(host, **everything(host)), dict)


# No secret.

CANARIES = ("canary-of-secrets", "canary-of-password", "canary-of-token")


class Witness:
    """All that anybody may see or find: results, messages, commands, and what is written into our own folder."""

    def __init__(self, host: Node) -> None:
        self.seen: list[str] = []
        self.host = host
        write = host.write

        def witness(path: str, data: bytes, *rest: t.Any, **named: t.Any) -> None:
            if path.startswith(f"{state_folder(host)}/"):  # type: ignore[arg-type]
                self.seen.append(data.decode())
            write(path, data, *rest, **named)

        host.write = witness  # type: ignore[method-assign]

    def run(self, check_mode: bool = False, **options: t.Any) -> None:
        try:
            self.seen.append(json.dumps(bring(self.host, check_mode, **options)))
        except GpustackError as exc:
            self.seen.append(str(exc))

    def all(self) -> str:
        folder = f"{state_folder(self.host)}/"  # type: ignore[arg-type]
        files = [file.content.decode() for path, file in self.host.files.items() if path.startswith(folder) and "/undo-" not in path]
        return "\n".join([*self.seen, *files, *(" ".join(call) for call in self.host.calls)])


@ALL_KINDS
def test_no_secret_anywhere(kind: str) -> None:
    host = KINDS[kind]()
    witness = Witness(host)
    secrets = {"secrets": {"HF_TOKEN": CANARIES[0]}}
    logins = [{"url_username": "me", "url_password": CANARIES[1]}, {"url_token": CANARIES[2]}]
    for login in logins:
        # Nobody listens there.
        there = {"source": "download", "base_url": "http://127.0.0.1:1", "retries": 0, "timeout_seconds": 1, **login}
        failed = everything(host, environment=secrets)
        witness.run(**{**failed, "llama_box": {**failed["llama_box"], **there, "version": "v0.0.144"}})
        assert "127.0.0.1" in witness.seen[-1]
        for options in ({"restart": "never"}, {}):
            given = everything(host, environment=secrets, **options)
            given["llama_box"].update(login)
            witness.run(check_mode=True, **given)
            witness.run(**given)
    assert CANARIES[0] in host.environment().values()
    host.kills = lambda environment: environment.get("HF_TOKEN", "").endswith("!")
    witness.run(**everything(host, environment={"secrets": {"HF_TOKEN": f"{CANARIES[0]}!"}}))
    assert "everything that was changed was put back" in witness.seen[-1]
    witness.run(**everything(host, environment={"secrets": {"HF_TOKEN": f"{CANARIES[0]}\n"}}))
    assert "HF_TOKEN" in witness.seen[-1]
    witness.run(**everything(host, environment={"state": "absent"}))
    assert [canary for canary in CANARIES if canary in witness.all()] == []
    # The witness does see.
    witness.run(environment={"variables": {"SHOWN": CANARIES[0]}})
    assert CANARIES[0] in witness.all()


def test_the_archives_that_the_controller_has_to_bring() -> None:
    host = NodeMac()
    build = BUILDS["Darwin"][0]
    release = whole_nodes.lock_of("Darwin")["releases"][VERSION][build]
    options = everything(host)
    options["llama_box"].update(source="push", archives_folder="archives", folder=None)
    before = state_of(host)
    with pytest.raises(GpustackError) as asked:
        bring(host, **options)
    assert asked.value.as_result()["archives_needed"][0]["sha256"] == release["sha256"]  # type: ignore[attr-defined]
    assert (state_of(host), host.stops, receipt(host)) == (before, 0, None)
    assert bring(host, check_mode=True, **options)["changed"] is True
    pushed = f"{ARCHIVES}/{VERSION}/{archives.archive_name(build)}"
    options["llama_box"]["archives"] = {release["sha256"]: pushed}
    assert bring(host, **options)["restarted"] is True
    found = receipt(host)
    assert found is not None
    assert pushed not in found.files
    # The next task is not given them any more.
    del options["llama_box"]["archives"]
    assert bring(host, **options)["changed"] is False
    assert isinstance(compare(host, **options), dict)


# What is left once all is done.

IN_CONFIG = "/etc/gpustack/config.yaml"


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("restart", ["now", "never"])
@pytest.mark.parametrize("check_mode", [False, True])
def test_a_place_that_is_not_governed_fails_a_node_on_which_all_is_done(kind: str, restart: str, check_mode: bool) -> None:
    """Whether anything was to be done or not; but what is still to be restarted has it for a reason."""
    host = KINDS[kind]()
    bring(host, **everything(host))
    start_with_residency(host)
    plant_config(host)
    options = {**everything(host), "restart": restart}
    first = bring(host, check_mode=check_mode, **options)
    assert first["changed"] is (restart == "now")
    assert first.get("failed", False) is (restart == "now" and not check_mode)
    bring(host, **{**options, "restart": "now"})
    second = bring(host, check_mode=check_mode, **options)
    assert (second["changed"], second["failed"]) == (False, True)
    assert second["msg"] == (
        f"{RESIDENCY} is still present in {IN_CONFIG}. What the files and the service manager held is gone, so something else sets it:"
        " a model's own env in GPUStack's server, or a wrapper script"
    )
    # Not where it may stay, or nothing is wanted of it.
    unmanaged = {**options, "environment": {**options["environment"], "residency_variable": "unmanaged"}}
    assert "failed" not in bring(host, **unmanaged)
    del options["environment"]
    assert "failed" not in bring(host, **options)


def plant_config(host: Node) -> None:
    """A configuration file in which the variable is, and a service that reads it."""
    host.put(IN_CONFIG, f"{RESIDENCY}: 1\n".encode(), 0o644)
    path = PLIST if isinstance(host, NodeMac) else UNIT_FILE
    for old, new in ((b"<string>start<", b"<string>start</string><string>--config-file=%s<"), (b" start\n", b" start --config-file %s\n")):
        host.put(path, host.files[path].content.replace(old, new % IN_CONFIG.encode()), host.files[path].mode)
    if isinstance(host, NodeLinux):
        host._do_daemon_reload()


@pytest.mark.parametrize("models_follow", [False, True])
def test_a_process_of_a_model_may_have_it_where_models_are_seen_to_later(models_follow: bool) -> None:
    host = NodeLinux()
    bring(host, **everything(host))
    host.put(f"/proc/{host._pid}/task/{host._pid}/children", b"88 ", 0o444)
    host.put("/proc/88/environ", f"PATH=/bin\0{RESIDENCY}=0\0".encode(), 0o400)
    host.put("/proc/88/task/88/children", b"", 0o444)
    host._put_process(88, host._pid, "/x/llama-box", host.clock)
    result = bring(host, **everything(host), models_follow=models_follow)
    if models_follow:
        assert "failed" not in result
        assert result["warnings"] == [f"{RESIDENCY} is left in pid 88 (llama-box), which is seen to with the models"]
    else:
        assert (result["failed"], "pid 88 (llama-box)" in result["msg"], result["warnings"]) == (True, True, [])
    # It is asked each time.
    assert isinstance(compare(host, **everything(host), models_follow=models_follow), str)


def test_a_node_that_cannot_be_looked_at_afterwards_fails_and_says_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    host = NodeLinux()

    def places(*_arguments: t.Any) -> t.NoReturn:
        raise HostError("nobody knows why")

    bring(host, **everything(host))
    monkeypatch.setattr("ansible_collections.metalfleet.gpustack.plugins.module_utils._node.node.residency_places", places)
    start_with_residency(host)
    edit(host, FILE, b"HF_ENDPOINT", f"{RESIDENCY}=1\nHF_ENDPOINT".encode())
    given = {**everything(host), "receipt_for": None}
    result, warnings = node.bring_to_state(host, validated(node.ARGUMENT_SPEC, given), False)  # type: ignore[arg-type]
    assert (result["changed"], result["failed"], warnings) == (True, True, [])
    assert result["msg"] == (f"{RESIDENCY} could not be looked for afterwards: nobody knows why. What was done stays: {FILE}; one restart")


def test_a_job_that_outlives_its_property_list_fails_a_node() -> None:
    """Nothing can restart it, and it goes on with the variable."""
    host = NodeMac()
    host.respawn()
    content = plistlib.loads(host.files[PLIST].content)
    content["EnvironmentVariables"][RESIDENCY] = "1"
    whole_nodes.write(host, PLIST, plistlib.dumps(content))
    host.start_anew()
    host.remove(PLIST)
    for _time in range(2):
        result = bring(host, environment={})
        assert result["failed"] is True
        assert f"{RESIDENCY} is still present in system/{LABEL}" in result["msg"]
        assert isinstance(compare(host, environment={}), str)

# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The resource on Macs in memory, in the layouts of GPUStack 0.6.0, 0.6.2 and 0.7.1."""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.llama_box import ArchivesNeededError, LlamaBox
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Planned
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_plan import RESTART_REASON
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_request import parse_request
from ansible_collections.metalfleet.gpustack.tests.mirror import archives
from ansible_collections.metalfleet.gpustack.tests.unit.llama_box_nodes import (
    ARCHIVES,
    BIN_DIR,
    BUILTIN_0_6,
    BUILTIN_0_7,
    DYNAMIC,
    FOLDER_0_7,
    LINK_0_7,
    RECORD,
    STATE,
    STATIC,
    STATIC_OWN_0_7,
    STORE,
    THIRD_PARTY,
    BoxHost,
    installed,
    lock_data,
    node,
    options,
    program,
    sha256,
)

RPC_0_6 = f"{THIRD_PARTY}/llama-box/llama-box-rpc-server"
PINNED_0_6 = f"{BIN_DIR}/llama-box_v0.0.139"
VERSIONS_FILE = f"{THIRD_PARTY}/versions.json"


def resource(host: BoxHost, gpustack: str | Installation | None = "0.6.2", **changed: t.Any) -> LlamaBox:
    installation = gpustack if isinstance(gpustack, Installation) else installed(gpustack)
    return LlamaBox(host, installation, parse_request(options(**changed)), STATE)


def carry_out(host: BoxHost, box: LlamaBox) -> Planned:
    """What a transaction does with one resource, without its restart."""
    planned = box.plan()
    if planned.steps:
        box.prepare()
        for step in planned.steps:
            step.apply(host)
    assert box.check() == ()
    if planned.steps:
        assert box.finish() == ()
    return planned


def run(host: BoxHost, gpustack: str | Installation | None = "0.6.2", **changed: t.Any) -> Planned:
    return carry_out(host, resource(host, gpustack, **changed))


def actions(planned: Planned) -> list[tuple[str, str, str | None, str | None]]:
    return [(change["name"], change["action"], change["from"], change["to"]) for change in planned.changes]


def assert_nothing_changes(host: BoxHost, gpustack: str | Installation | None = "0.6.2", **changed: t.Any) -> None:
    before, writes = dict(host.files), list(host.writes)
    planned = run(host, gpustack, **changed)
    assert (planned.steps, planned.changes, planned.diffs, planned.restart_reasons) == ((), (), (), ())
    assert (planned.replaced, planned.blocked) == (False, ())
    assert (host.files, host.writes) == (before, writes)


@pytest.mark.parametrize(("gpustack", "own"), [("0.6.0", "v0.0.136"), ("0.6.2", "v0.0.154")])
def test_both_slots_of_0_6(gpustack: str, own: str) -> None:
    host = node(gpustack)
    before = host.content(VERSIONS_FILE)
    planned = run(host, gpustack)
    way = "upgraded" if own < "v0.0.139" else "downgraded"
    assert actions(planned) == [("pinned", "installed", None, "v0.0.139"), ("builtin", way, own, "v0.0.139")]
    assert (planned.restart_reasons, planned.replaced, planned.blocked, planned.warnings) == ((RESTART_REASON,), True, (), ())
    assert host.content(BUILTIN_0_6) == host.content(PINNED_0_6) == program("v0.0.139")
    assert (host.files[BUILTIN_0_6].mode, host.files[PINNED_0_6].mode) == (0o755, 0o755)
    assert host.resolve(RPC_0_6) == BUILTIN_0_6
    assert host.content(VERSIONS_FILE) == before
    assert planned.result == {
        "slots": [
            {
                "slot": "pinned",
                "path": PINNED_0_6,
                "version_before": None,
                "version": "v0.0.139",
                "build": STATIC,
                "sha256": sha256(program("v0.0.139")),
            },
            {
                "slot": "builtin",
                "path": BUILTIN_0_6,
                "version_before": own,
                "version": "v0.0.139",
                "build": STATIC,
                "sha256": sha256(program("v0.0.139")),
            },
        ],
        "kept": [],
        "toolkit": "metal",
    }
    assert_nothing_changes(host, gpustack)


def test_both_slots_of_0_7_with_libraries() -> None:
    host = node("0.7.1")
    before = host.content(VERSIONS_FILE)
    planned = run(host, "0.7.1", version="v0.0.168")
    assert actions(planned) == [("pinned", "installed", None, "v0.0.168"), ("builtin", "downgraded", "v0.0.171", "v0.0.168")]
    assert planned.restart_reasons == (RESTART_REASON,)
    for folder in (FOLDER_0_7, f"{BIN_DIR}/llama-box/llama-box-v0.0.168"):
        for name, content in archives.contents("v0.0.168", DYNAMIC).items():
            assert host.content(f"{folder}/{name}") == content
    assert host.resolve(f"{FOLDER_0_7}/llama-box-rpc-server") == BUILTIN_0_7
    assert host.status(f"{BIN_DIR}/llama-box/llama-box-v0.0.168/llama-box-rpc-server") is None
    assert host.content(VERSIONS_FILE) == before
    assert_nothing_changes(host, "0.7.1", version="v0.0.168")


def test_a_static_release_leaves_no_library_of_the_dynamic_one_in_0_7() -> None:
    host = node("0.7.1")
    run(host, "0.7.1", version="v0.0.139")
    assert host.names(FOLDER_0_7) == ["llama-box", "llama-box-rpc-server"]
    assert host.content(BUILTIN_0_7) == program("v0.0.139")
    assert host.content(f"{BIN_DIR}/llama-box/static/llama-box-v0.0.139/llama-box") == program("v0.0.139")
    assert_nothing_changes(host, "0.7.1", version="v0.0.139")
    host.put(f"{FOLDER_0_7}/libggml.dylib", b"left over")
    assert actions(run(host, "0.7.1", version="v0.0.139")) == [("builtin", "repaired", "v0.0.139", "v0.0.139")]
    assert host.names(FOLDER_0_7) == ["llama-box", "llama-box-rpc-server"]


def test_what_is_no_library_may_lie_in_a_folder_of_0_7() -> None:
    host = node("0.7.1")
    host.put(f"{FOLDER_0_7}/core.4711", b"")
    host.put(f"{FOLDER_0_7}/tmp-llama-box/half.zip", b"")
    assert_nothing_changes(host, "0.7.1", version="v0.0.171")


def test_the_own_release_of_0_7_needs_no_pinned_slot() -> None:
    host = node("0.7.1")
    assert_nothing_changes(host, "0.7.1", version="v0.0.171")
    host.put(f"{FOLDER_0_7}/libllama.dylib", b"damaged")
    assert actions(run(host, "0.7.1", version="v0.0.171")) == [("builtin", "repaired", "v0.0.171", "v0.0.171")]


def test_the_builtin_slot_that_a_pin_of_0_7_means_is_not_the_one_asked_for() -> None:
    host = node("0.7.1")
    planned = resource(host, "0.7.1", version="v0.0.171", slots=["pinned"]).plan()
    assert planned == Planned(fingerprint=planned.fingerprint, result={"slots": [], "kept": [], "toolkit": "metal"})
    run(host, "0.7.1", version="v0.0.139")
    planned = resource(host, "0.7.1", version="v0.0.171", slots=["pinned"]).plan()
    sentence = (
        "GPUStack 0.7.1 runs its builtin llama-box for models with backend_version v0.0.171, and"
        f" {BUILTIN_0_7} is another one; add builtin to slots"
    )
    assert (planned.steps, planned.warnings) == ((), (sentence,))


def test_static_builds_only_in_0_7() -> None:
    host = node("0.7.1")
    host.put(STATIC_OWN_0_7, program("v0.0.171"), 0o744)
    host.link(f"{STATIC_OWN_0_7.rpartition('/')[0]}/llama-box-rpc-server", "llama-box")
    host.put(VERSIONS_FILE, b'{"llama-box-v0.0.171": "v0.0.171"}')
    static = installed("0.7.1", static_llama_box=True)
    assert_nothing_changes(host, static, version="v0.0.171")
    planned = run(host, static, version="v0.0.168")
    assert [change["where"] for change in planned.changes] == [f"{BIN_DIR}/llama-box/static/llama-box-v0.0.168/llama-box", STATIC_OWN_0_7]
    assert host.content(STATIC_OWN_0_7) == program("v0.0.168")
    assert host.content(BUILTIN_0_7) == program("v0.0.171", DYNAMIC)


def test_slots() -> None:
    host = node()
    planned = run(host, slots=["pinned"])
    assert actions(planned) == [("pinned", "installed", None, "v0.0.139")]
    # Nothing that runs has a pinned program of another version open.
    assert (planned.restart_reasons, planned.replaced) == ((), False)
    assert host.content(BUILTIN_0_6) == program("v0.0.154")
    assert actions(run(host, slots=["builtin"])) == [("builtin", "downgraded", "v0.0.154", "v0.0.139")]


def test_a_program_is_only_run_where_nothing_else_tells_what_it_is() -> None:
    host = node()
    run(host)
    assert host.asked() == []
    host = node()
    unknown = {"format": 1, "releases": {"v0.0.139": lock_data()["releases"]["v0.0.139"]}}
    assert actions(run(host, lock=unknown))[1] == ("builtin", "downgraded", "v0.0.154", "v0.0.139")
    assert host.asked() == [BUILTIN_0_6]


def test_what_we_put_there_is_known_without_being_run() -> None:
    host = node()
    run(host, lock=lock_data("v0.0.139"))
    host.calls.clear()
    planned = run(host, version="v0.0.144", lock=lock_data("v0.0.144"))
    assert actions(planned)[1] == ("builtin", "upgraded", "v0.0.139", "v0.0.144")
    assert host.asked() == []


def test_a_program_that_is_right_is_not_run() -> None:
    host = node()
    run(host)
    host.calls.clear()
    assert_nothing_changes(host)
    assert host.calls == []


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\necho my own\n"])
def test_a_program_that_somebody_has_changed(content: bytes) -> None:
    host = node()
    run(host)
    host.put(BUILTIN_0_6, content)
    planned = run(host)
    assert actions(planned) == [("builtin", "repaired", None, "v0.0.139")]
    assert planned.restart_reasons == (RESTART_REASON,)
    assert planned.diffs[0]["before_header"] == f"{BUILTIN_0_6} (an unknown llama-box)"
    assert host.content(BUILTIN_0_6) == program("v0.0.139")


def test_access_is_repaired_without_a_restart() -> None:
    host = node()
    run(host)
    host.files[PINNED_0_6].mode = 0o644
    host.files[BUILTIN_0_6].mode = 0o777
    planned = run(host)
    assert actions(planned) == [("pinned", "repaired", "v0.0.139", "v0.0.139"), ("builtin", "repaired", "v0.0.139", "v0.0.139")]
    assert (planned.restart_reasons, planned.replaced) == ((), False)
    assert (host.files[PINNED_0_6].mode, host.files[BUILTIN_0_6].mode) == (0o755, 0o755)
    assert_nothing_changes(host)


def test_the_owner_is_as_found() -> None:
    host = node()
    run(host)
    host.files[BUILTIN_0_6].uid = 501
    assert_nothing_changes(host)


@pytest.mark.parametrize("target", [None, "../elsewhere", "a file"])
@pytest.mark.parametrize(("gpustack", "folder"), [("0.6.2", f"{THIRD_PARTY}/llama-box"), ("0.7.1", FOLDER_0_7)])
def test_the_link_for_rpc_servers(gpustack: str, folder: str, target: str | None) -> None:
    host = node(gpustack)
    run(host, gpustack)
    writes = len(host.writes)
    host.remove(f"{folder}/llama-box-rpc-server")
    if target == "a file":
        host.put(f"{folder}/llama-box-rpc-server", b"")
    elif target:
        host.link(f"{folder}/llama-box-rpc-server", target)
    planned = run(host, gpustack)
    assert actions(planned) == [("builtin", "repaired", "v0.0.139", "v0.0.139")]
    assert planned.restart_reasons == ()
    assert host.writes[writes:] == [f"{folder}/llama-box-rpc-server"]
    assert host.resolve(f"{folder}/llama-box-rpc-server") == f"{folder}/llama-box"
    assert_nothing_changes(host, gpustack)


def test_a_link_in_place_of_a_program() -> None:
    host = node()
    run(host)
    host.put("/opt/mine", program("v0.0.139"))
    host.link(PINNED_0_6, "/opt/mine")
    assert actions(run(host)) == [("pinned", "repaired", None, "v0.0.139")]
    assert host.content(PINNED_0_6) == program("v0.0.139")
    assert host.content("/opt/mine") is not None


def test_a_program_that_went_away_is_installed_again() -> None:
    host = node()
    run(host)
    host.remove(BUILTIN_0_6)
    planned = run(host)
    assert actions(planned) == [("builtin", "installed", None, "v0.0.139")]
    assert planned.restart_reasons == (RESTART_REASON,)


@pytest.mark.parametrize("gpustack", ["0.6.2", "0.7.1"])
def test_gpustack_was_never_started(gpustack: str) -> None:
    host = node(gpustack)
    host.remove(THIRD_PARTY)
    planned = run(host, gpustack)
    assert actions(planned) == [("pinned", "installed", None, "v0.0.139")]
    what = f"{BUILTIN_0_6} yet" if gpustack == "0.6.2" else "builtin llama-box of GPUStack yet"
    assert planned.warnings == (f"there is no {what}; start GPUStack, which makes it, and run this again for the builtin slot",)
    assert [slot["slot"] for slot in planned.result["slots"]] == ["pinned"]


def test_gpustack_was_upgraded_and_not_started_since() -> None:
    host = node("0.6.2")
    host.put(BUILTIN_0_6, program("v0.0.144"))
    host.put(VERSIONS_FILE, b'{"llama-box": "v0.0.144"}')
    planned = resource(host).plan()
    sentence = (
        f"GPUStack downloads its own llama-box v0.0.154 over {BUILTIN_0_6} when it starts next, as its versions.json names v0.0.144 for"
        " it and not v0.0.154; restart GPUStack once so that it does, and run this again"
    )
    assert (planned.blocked, planned.warnings, planned.restart_reasons) == ((sentence,), (sentence,), (RESTART_REASON,))


def test_a_replacement_to_come_blocks_no_run_that_leaves_the_builtin_slot_alone() -> None:
    host = node("0.6.2")
    run(host)
    host.put(VERSIONS_FILE, b"{}")
    box = resource(host)
    planned = box.plan()
    assert (planned.blocked, planned.steps, len(planned.warnings)) == ((), (), 1)
    # What that start has replaced is found, and mended, by the run after it.
    host.put(BUILTIN_0_6, program("v0.0.154"))
    assert box.check() == ()
    assert resource(host, slots=["pinned"]).plan().warnings == ()


def test_a_record_of_gpustack_that_cannot_be_read_blocks_nothing() -> None:
    host = node()
    host.unreadable.add(VERSIONS_FILE)
    planned = resource(host).plan()
    assert planned.blocked == ()
    assert planned.warnings == (f"{VERSIONS_FILE} cannot be read: Permission denied",)


def test_check_names_what_gpustack_has_overwritten() -> None:
    host = node()
    box = resource(host)
    carry_out(host, box)
    host.put(BUILTIN_0_6, program("v0.0.154"))
    own, wanted = sha256(program("v0.0.154")), sha256(program("v0.0.139"))
    assert box.check() == (f"{BUILTIN_0_6} has the sha256 {own}, and v0.0.139 has {wanted}",)


def test_the_fingerprint_is_of_what_is_there_and_what_is_wanted() -> None:
    host = node()
    first = resource(host).plan().fingerprint
    assert resource(host).plan().fingerprint == first != resource(host, version="v0.0.144").plan().fingerprint
    host.put(BUILTIN_0_6, b"other")
    assert resource(host).plan().fingerprint != first


def test_where_the_slots_are_cannot_be_told() -> None:
    tail = "; install GPUStack and start it once"
    nothing = Installation("none", "launchd", "ai.gpustack")
    with pytest.raises(BadInputError, match=r"^where GPUStack looks for llama-box cannot be told, as there is no service ai\.gpustack on"):
        resource(node(), nothing).plan()
    doubtful = dataclasses.replace(nothing, warnings=("its property list is damaged", "and more"))
    sentence = f"where GPUStack looks for llama-box cannot be told, as its property list is damaged{tail}"
    with pytest.raises(BadInputError, match=f"^{sentence}$"):
        resource(node(), doubtful).plan()


@pytest.mark.parametrize("sealed", [False, True])
def test_the_application_of_the_desktop_package(sealed: bool) -> None:
    application = "/Applications/GPUStack.app"
    third_party = f"{application}/Contents/Frameworks/gpustack/third_party/bin"
    folder = f"{third_party}/llama-box/llama-box-v0.0.171-darwin-arm64-mps"
    host = node("0.7.1")
    for name, content in archives.contents("v0.0.171", DYNAMIC).items():
        host.put(f"{folder}/{name}", content)
    host.link(f"{folder}/llama-box-rpc-server", "llama-box")
    host.link(f"{third_party}/llama-box/llama-box-default", folder.rpartition("/")[2])
    host.put(f"{third_party}/versions.json", b'{"llama-box-v0.0.171-darwin-arm64-mps": "v0.0.171"}')
    desktop = dataclasses.replace(installed("0.7.1", third_party_bin=third_party), kind="desktop")
    # As it is, it may be.
    assert_nothing_changes(host, desktop, version="v0.0.171", sealed=sealed)
    run(host, desktop, slots=["pinned"], sealed=sealed)
    if sealed:
        run(host, desktop, sealed=True)
        assert host.content(f"{folder}/llama-box") == program("v0.0.139")
        assert_nothing_changes(host, desktop)
        return
    sentence = (
        f"slots: the builtin llama-box lies inside the signed application {application}; leave it alone with slots: [pinned],"
        " or say sealed: true to write there all the same, which breaks the application's signature"
    )
    with pytest.raises(BadInputError, match=f"^{re.escape(sentence)}$"):
        resource(host, desktop).plan()


# The store, and GPUStack's own program.


@pytest.mark.parametrize(("gpustack", "own"), [("0.6.2", "v0.0.154"), ("0.7.1", "v0.0.171")])
def test_gpustacks_own_program_is_kept_and_comes_back(gpustack: str, own: str) -> None:
    host = node(gpustack)
    before = {path: file for path, file in host.files.items() if path.startswith(THIRD_PARTY)}
    run(host, gpustack)
    run(host, gpustack, version="v0.0.144")
    assert host.names(STORE) == [f"builtin-{gpustack}", f"builtin-{gpustack}.json", "v0.0.139", "v0.0.144"]
    planned = run(host, gpustack, version=None, state="absent")
    assert actions(planned) == [
        *[("pinned", "removed", version, None) for version in ("v0.0.139", "v0.0.144")],
        ("builtin", "upgraded", "v0.0.144", own),
        ("record", "removed", None, None),
        ("releases", "removed", None, None),
    ]
    assert planned.restart_reasons == (RESTART_REASON,)
    assert planned.warnings == ()
    after = {path: file for path, file in host.files.items() if path.startswith(THIRD_PARTY)}
    assert {path: file.content for path, file in after.items()} == {path: file.content for path, file in before.items()}
    assert [path for path in host.files if path.startswith((STATE, BIN_DIR))] == []
    assert_nothing_changes(host, gpustack, version=None, state="absent")
    assert run(host, gpustack, version=None, state="absent").result == {"slots": [], "kept": [], "toolkit": None}


def test_giving_up_is_told_slot_by_slot() -> None:
    host = node()
    run(host)
    slots = run(host, version=None, state="absent").result["slots"]
    assert [(slot["slot"], slot["version_before"], slot["version"], slot["build"], slot["sha256"]) for slot in slots] == [
        ("pinned", "v0.0.139", None, None, None),
        ("builtin", "v0.0.139", "v0.0.154", None, sha256(program("v0.0.154"))),
    ]


@pytest.mark.parametrize("gpustack", ["0.6.2", "0.7.1"])
def test_without_a_copy_gpustack_downloads_its_own(gpustack: str) -> None:
    host = node(gpustack)
    builtin = BUILTIN_0_6 if gpustack == "0.6.2" else BUILTIN_0_7
    run(host, gpustack)
    host.remove(f"{STORE}/builtin-{gpustack}")
    planned = run(host, gpustack, version=None, state="absent")
    assert ("builtin", "removed", "v0.0.139", None) in actions(planned)
    assert planned.warnings == (f"no copy of GPUStack's own llama-box is kept, so it downloads {builtin} when it starts next",)
    assert planned.restart_reasons == (RESTART_REASON,)
    assert host.status(builtin) is None
    if gpustack == "0.7.1":
        assert host.status(FOLDER_0_7) is None


def test_check_expects_no_builtin_program_to_be_missing_that_gpustack_has_made_anew() -> None:
    host = node()
    run(host)
    host.remove(f"{STORE}/builtin-0.6.2")
    box = resource(host, version=None, state="absent")
    carry_out(host, box)
    host.put(BUILTIN_0_6, program("v0.0.154"))
    assert box.check() == ()
    host.put(PINNED_0_6, program("v0.0.139"))
    assert box.check() == (f"{PINNED_0_6} is there",)


def test_what_is_not_ours_stays() -> None:
    host = node()
    host.put(PINNED_0_6, program("v0.0.139"))
    run(host)
    # Of these two, we put only the builtin one there; somebody has replaced it since.
    host.put(BUILTIN_0_6, b"somebody's own")
    planned = run(host, version=None, state="absent")
    assert actions(planned) == [("record", "removed", None, None), ("releases", "removed", None, None)]
    assert (host.content(PINNED_0_6), host.content(BUILTIN_0_6)) == (program("v0.0.139"), b"somebody's own")
    assert planned.restart_reasons == ()


def test_what_went_away_by_itself_is_nothing_to_give_up() -> None:
    host = node()
    run(host)
    host.remove(BUILTIN_0_6)
    host.remove(PINNED_0_6)
    assert actions(run(host, version=None, state="absent")) == [("record", "removed", None, None), ("releases", "removed", None, None)]


def test_giving_up_needs_no_gpustack() -> None:
    host = node()
    run(host)
    assert host.content(PINNED_0_6) is not None
    run(host, Installation("none", "launchd", "ai.gpustack"), version=None, state="absent")
    assert host.content(PINNED_0_6) is None
    assert host.content(BUILTIN_0_6) == program("v0.0.154")


def test_a_repair_of_access_makes_nothing_ours() -> None:
    host = node()
    host.put(PINNED_0_6, program("v0.0.139"), 0o644)
    run(host, slots=["pinned"])
    assert host.files[PINNED_0_6].mode == 0o755
    assert host.status(RECORD) is None or json.loads(host.content(RECORD) or b"")["placed"] == {}


def test_only_gpustacks_own_program_is_kept_as_such() -> None:
    host = node()
    host.put(BUILTIN_0_6, program("v0.0.144"))
    run(host)
    assert "builtin-0.6.2" not in host.names(STORE)
    assert json.loads(host.content(RECORD) or b"")["placed"][BUILTIN_0_6]["kept"] == ""
    host = node()
    host.mute = frozenset({BUILTIN_0_6})
    run(host, lock=lock_data("v0.0.139"))
    assert "builtin-0.6.2" not in host.names(STORE)


def test_of_an_unknown_release_of_gpustack_whatever_is_there_is_kept() -> None:
    host = node()
    run(host, "0.6.9")
    assert "builtin-0.6.9" in host.names(STORE)


def test_gpustack_was_upgraded_and_has_made_its_own_builtin_anew() -> None:
    host = node("0.6.0")
    run(host, "0.6.0")
    host.put(BUILTIN_0_6, program("v0.0.154"))
    host.put(VERSIONS_FILE, b'{"llama-box": "v0.0.154"}')
    run(host, "0.6.2")
    assert host.content(f"{STORE}/builtin-0.6.2/llama-box") == program("v0.0.154")
    run(host, "0.6.2", version=None, state="absent")
    assert host.content(BUILTIN_0_6) == program("v0.0.154")


def test_a_run_that_died_before_its_last_step_forgets_nothing() -> None:
    host = node()
    run(host)
    box = resource(host, version="v0.0.144")
    planned = box.plan()
    box.prepare()
    planned.steps[0].apply(host)
    assert host.content(BUILTIN_0_6) == program("v0.0.139")
    run(host, version="v0.0.144")
    run(host, version=None, state="absent")
    assert (host.content(BUILTIN_0_6), host.content(f"{BIN_DIR}/llama-box_v0.0.144")) == (program("v0.0.154"), None)


def test_what_was_placed_just_before_a_run_died_is_ours() -> None:
    host = node()
    box = resource(host)
    planned = box.plan()
    box.prepare()
    for step in planned.steps[:2]:
        step.apply(host)
    assert host.content(PINNED_0_6) is not None
    run(host, version=None, state="absent")
    assert host.content(PINNED_0_6) is None


def test_keep() -> None:
    host = node("0.6.0")
    for version in ("v0.0.139", "v0.0.144", "v0.0.154", "v0.0.168"):
        planned = run(host, "0.6.0", version=version, keep=2)
    assert planned.result["kept"] == [f"v0.0.154/{STATIC}", f"v0.0.144/{STATIC}"]
    assert host.names(STORE) == ["builtin-0.6.0", "builtin-0.6.0.json", "v0.0.144", "v0.0.154", "v0.0.168"]
    # Going back makes the one gone back to the newest.
    assert run(host, "0.6.0", version="v0.0.144", keep=1).result["kept"] == [f"v0.0.168/{STATIC}"]
    assert host.names(STORE) == ["builtin-0.6.0", "builtin-0.6.0.json", "v0.0.144", "v0.0.168"]
    assert run(host, "0.6.0", version="v0.0.139", keep=0).result["kept"] == []
    assert host.names(STORE) == ["builtin-0.6.0", "builtin-0.6.0.json", "v0.0.139"]


def test_what_is_said_to_be_kept_is_there() -> None:
    host = node()
    host.put(PINNED_0_6, program("v0.0.139"))
    run(host, slots=["pinned"])
    assert run(host, version="v0.0.144").result["kept"] == []


def test_going_back_needs_no_archive() -> None:
    host = node()
    run(host, version="v0.0.139")
    run(host, version="v0.0.144")
    host.remove(ARCHIVES)
    planned = run(host, version="v0.0.139")
    assert actions(planned) == [("builtin", "downgraded", "v0.0.144", "v0.0.139")]


def test_tidying_up_never_fails() -> None:
    class Sticky(BoxHost):
        def remove(self, path: str) -> None:
            if path == STORE:
                raise HostError(f"{path} cannot be removed: Operation not permitted")
            super().remove(path)

    host = node(host=Sticky())
    run(host)
    box = resource(host, version=None, state="absent")
    for step in box.plan().steps:
        step.apply(host)
    assert box.finish() == (f"{STORE} cannot be removed: Operation not permitted",)


def test_what_a_run_changes_of_the_record_can_be_undone_with_it() -> None:
    host = node()
    run(host)
    box = resource(host, version="v0.0.144")
    planned = box.plan()
    box.prepare()
    for step in planned.steps:
        step.apply(host)
    written = host.content(RECORD)
    box.finish()
    # The rollback of a run asks whether somebody has edited its files since.
    assert host.content(RECORD) == written


def test_what_getting_a_release_warned_of_is_told() -> None:
    host = node()
    host.tools = frozenset({"xattr"})
    box = resource(host)
    box.plan()
    box.prepare()
    assert box.finish() == ("codesign does not exist on this host, so nobody looked at the signatures of llama-box",)


# Archives.


def test_planning_needs_no_archive() -> None:
    host = node()
    host.remove(ARCHIVES)
    before = dict(host.files)
    for source in ({"source": "push", "archives_folder": "archives"}, {"source": "download"}, {}):
        assert len(resource(host, **source).plan().changes) == 2
    assert (host.files, host.writes) == (before, [])


def test_no_archive_on_the_node_changes_nothing() -> None:
    host = node()
    host.remove(ARCHIVES)
    box = resource(host)
    box.plan()
    before = {path: file.content for path, file in host.files.items()}
    with pytest.raises(HostError, match=r"^the archive of llama-box v0\.0\.139 \(darwin-arm64-metal\) is not on this host"):
        box.prepare()
    assert {path: file.content for path, file in host.files.items()} == before


def test_push() -> None:
    host = node()
    push = {"source": "push", "archives_folder": "archives"}
    box = resource(host, **push)
    box.plan()
    with pytest.raises(ArchivesNeededError, match=r"^the controller has to copy llama-box-darwin-arm64-metal\.zip to this node") as caught:
        box.prepare()
    release = lock_data()["releases"]["v0.0.139"][STATIC]
    # Both slots take the same archive.
    assert caught.value.as_result() == {
        "changed": False,
        "archives_needed": [
            {
                "version": "v0.0.139",
                "build": STATIC,
                "sha256": release["sha256"],
                "size_bytes": release["size_bytes"],
                "archive_name": "llama-box-darwin-arm64-metal.zip",
            }
        ],
    }
    path = f"{ARCHIVES}/v0.0.139/llama-box-darwin-arm64-metal.zip"
    run(host, archives={release["sha256"]: path}, **push)
    assert host.content(BUILTIN_0_6) == program("v0.0.139")
    # What the store has needs no archive again.
    host.put(BUILTIN_0_6, b"damaged")
    run(host, **push)
    assert host.content(BUILTIN_0_6) == program("v0.0.139")


def test_an_archive_that_is_not_needed_is_not_asked_for() -> None:
    host = node()
    run(host)
    host.remove(RPC_0_6)
    host.remove(STORE)
    run(host, source="push", archives_folder="archives")
    assert host.resolve(RPC_0_6) == BUILTIN_0_6


def test_download_options_go_along() -> None:
    asked = options(
        source="download",
        base_url="https://mirror.invalid/github",
        url_username="me",
        url_password="synthetic-password",
        ca_path="/etc/ca.pem",
        use_proxy=False,
        timeout_seconds=7,
        retries=1,
    )
    source = LlamaBox(node(), installed(), parse_request(asked), STATE)._store._source
    assert (source.kind, source.base_url, source.folder, source.pushed) == ("download", "https://mirror.invalid/github", ARCHIVES, {})
    download = source.download
    assert (download.username, download.password, download.token, download.ca_path) == ("me", "synthetic-password", None, "/etc/ca.pem")
    assert (download.use_proxy, download.timeout_seconds, download.retries) == (False, 7, 1)
    token = LlamaBox(node(), installed(), parse_request(options(url_token="synthetic-token")), STATE)._store._source
    assert (token.kind, token.download.token) == ("folder", "synthetic-token")


def test_a_toolkit_that_is_said_is_not_looked_for() -> None:
    host = node()
    with pytest.raises(BadInputError, match=r"^lock: v0\.0\.139 has no build darwin-arm64-neon"):
        resource(host, toolkit="neon").plan()


def test_the_link_to_the_builtin_folder_leads_nowhere() -> None:
    host = node("0.7.1")
    host.remove(FOLDER_0_7)
    assert (host.status(LINK_0_7) is not None, host.status(FOLDER_0_7)) == (True, None)
    assert [change["name"] for change in run(host, "0.7.1").changes] == ["pinned"]

# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import re
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import llama_box_plan as plans
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_layout import Slot
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_plan import (
    Differences,
    Goal,
    Node,
    Seen,
    SeenFile,
    action_of,
    application_around,
    change_of,
    compare,
    counts,
    diff_of,
    goals_present,
    replacement_at_start,
    slot_result,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Lock, Release

BIN = "/var/lib/gpustack/bin"
TOOLS = "/venv/third_party/bin/llama-box"
BUILTIN_0_6 = Slot("builtin", f"{TOOLS}/llama-box", "llama-box")
BUILTIN_0_7 = Slot("builtin", f"{TOOLS}/llama-box-v0.0.171-darwin-arm64-mps/llama-box", "llama-box-v0.0.171-darwin-arm64-mps")
STATIC_OWN = Slot("builtin", f"{BIN}/llama-box/static/llama-box-v0.0.171/llama-box", "llama-box-v0.0.171")
A, B, C = "a" * 64, "b" * 64, "c" * 64


def release(version: str, build: str, **files: str) -> Release:
    return Release(version, build, "https://a.invalid/x.zip", A, 1, files or {"llama-box": A})


STATIC = {version: release(version, "darwin-arm64-metal") for version in ("v0.0.99", "v0.0.139", "v0.0.171")}
DYNAMIC = release("v0.0.171", "dl-darwin-arm64-metal", **{"llama-box": A, "libggml.dylib": B})
LOCK = Lock((*STATIC.values(), DYNAMIC))
BOTH = ("builtin", "pinned")


def node(gpustack: str | None, builtin: Slot | None, only_static: bool = False, **changed: t.Any) -> Node:
    return dataclasses.replace(Node(gpustack, BIN, "Darwin", "arm64", "metal", builtin, only_static), **changed)


def goals(gpustack: str, builtin: Slot | None, version: str, slots: t.Collection[str] = BOTH, only_static: bool = False) -> t.Any:
    return goals_present(node(gpustack, builtin, only_static), LOCK, version, slots)


def test_gpustack_0_6_has_one_file_a_slot() -> None:
    many = dataclasses.replace(STATIC["v0.0.139"], files={"llama-box": A, "LICENSE": B})
    assert goals_present(node("0.6.2", BUILTIN_0_6), Lock((many,)), "v0.0.139", BOTH) == (
        Goal("pinned", f"{BIN}/llama-box_v0.0.139", {"llama-box": A}, "v0.0.139", False, many),
        Goal("builtin", f"{TOOLS}/llama-box", {"llama-box": A}, "v0.0.139", False, many),
    )


def test_gpustack_0_6_takes_static_builds_only() -> None:
    assert [goal.release for goal in goals("0.6.2", BUILTIN_0_6, "v0.0.171")] == [STATIC["v0.0.171"]] * 2


def test_gpustack_0_7_has_a_folder_a_slot() -> None:
    assert goals("0.7.0", BUILTIN_0_7, "v0.0.171") == (
        Goal("pinned", f"{BIN}/llama-box/llama-box-v0.0.171/llama-box", DYNAMIC.files, "v0.0.171", True, DYNAMIC),
        Goal("builtin", BUILTIN_0_7.path, DYNAMIC.files, "v0.0.171", True, DYNAMIC),
    )


def test_gpustack_0_7_takes_old_ones_static() -> None:
    found = goals("0.7.1", BUILTIN_0_7, "v0.0.139")
    assert [goal.path for goal in found] == [f"{BIN}/llama-box/static/llama-box-v0.0.139/llama-box", BUILTIN_0_7.path]
    assert [(goal.release, goal.in_folder) for goal in found] == [(STATIC["v0.0.139"], True)] * 2


def test_what_gpustack_0_7_takes_for_new_lies_where_it_looks_and_is_what_there_is() -> None:
    found = goals("0.7.1", BUILTIN_0_7, "v0.0.99", ["pinned"])
    assert [(goal.path, goal.release) for goal in found] == [(f"{BIN}/llama-box/llama-box-v0.0.99/llama-box", STATIC["v0.0.99"])]


def test_gpustack_0_7_runs_the_builtin_one_for_its_own_version() -> None:
    assert [goal.slot for goal in goals("0.7.1", BUILTIN_0_7, "v0.0.171")] == ["builtin"]
    assert goals("0.7.1", BUILTIN_0_7, "v0.0.171", ["pinned"]) == ()


def test_with_static_builds_only_the_builtin_slot_of_0_7_is_the_pinned_one_of_its_version() -> None:
    found = goals("0.7.1", STATIC_OWN, "v0.0.171", only_static=True)
    assert [(goal.slot, goal.path, goal.release) for goal in found] == [("builtin", STATIC_OWN.path, STATIC["v0.0.171"])]
    alone = goals("0.7.1", STATIC_OWN, "v0.0.171", ["pinned"], only_static=True)
    assert [(goal.slot, goal.path) for goal in alone] == [("pinned", STATIC_OWN.path)]


def test_only_the_slots_that_are_asked_for() -> None:
    assert [goal.slot for goal in goals("0.6.2", BUILTIN_0_6, "v0.0.139", ["pinned"])] == ["pinned"]
    assert [goal.slot for goal in goals("0.6.2", BUILTIN_0_6, "v0.0.139", ["builtin"])] == ["builtin"]
    assert [goal.slot for goal in goals("0.7.1", None, "v0.0.139")] == ["pinned"]


def test_the_build_is_that_of_the_host() -> None:
    linux = node("0.6.2", BUILTIN_0_6, system="Linux", machine="x86_64", toolkit="cuda-12.4")
    with pytest.raises(BadInputError, match=r"v0\.0\.139 has no build linux-amd64-cuda-12\.4"):
        goals_present(linux, LOCK, "v0.0.139", BOTH)


@pytest.mark.parametrize(
    ("gpustack", "message"),
    [
        (None, "GPUStack's version is not known, so neither is where it looks for llama-box; install a release of GPUStack"),
        ("v0.0.0", "GPUStack's version is 'v0.0.0', which does not say where it looks for llama-box; install a release of GPUStack"),
    ],
)
def test_a_version_of_gpustack_that_tells_nothing(gpustack: str | None, message: str) -> None:
    with pytest.raises(BadInputError, match=f"^{re.escape(message)}$"):
        goals_present(node(gpustack, BUILTIN_0_6), LOCK, "v0.0.139", BOTH)


PINNED = Goal("pinned", "/bin/llama-box_v0.0.139", {"llama-box": A}, "v0.0.139", release=STATIC["v0.0.139"])
BUILTIN = Goal("builtin", "/t/llama-box", {"llama-box": A}, "v0.0.139", release=STATIC["v0.0.139"])
FOLDER = Goal("builtin", "/t/f/llama-box", DYNAMIC.files, "v0.0.171", True, DYNAMIC)
NOTHING = Goal("pinned", "/bin/llama-box_v0.0.139")


def seen(program: str | None = A, mode: int = 0o755, version: str | None = "v0.0.136", has_link: bool = True, **others: SeenFile) -> Seen:
    return Seen({"llama-box": SeenFile(program, mode), **others}, has_link, version)


def test_links_are_for_the_builtin_program_only() -> None:
    assert BUILTIN.links == {"llama-box-rpc-server": "llama-box"}
    assert PINNED.links == {}
    assert dataclasses.replace(BUILTIN, files={}).links == {}


@pytest.mark.parametrize(
    ("name", "goal", "expected"),
    [
        ("llama-box", FOLDER, True),
        ("libggml.dylib", FOLDER, True),
        ("libggml-cpu.so", FOLDER, True),
        ("libggml.so.1.2", FOLDER, True),
        ("default.metallib", FOLDER, True),
        ("libggml.so.old", FOLDER, False),
        ("libggml.dylib\n", FOLDER, False),
        (".so", FOLDER, False),
        ("tmp-llama-box", FOLDER, False),
        ("llama-box-rpc-server", FOLDER, False),
        ("libggml.dylib", dataclasses.replace(FOLDER, files={}), False),
    ],
)
def test_counts(name: str, goal: Goal, expected: bool) -> None:
    assert counts(name, goal) is expected


@pytest.mark.parametrize("mode", [0o755, 0o744, 0o700, 0o555, 0o100])
@pytest.mark.parametrize("goal", [PINNED, BUILTIN])
def test_no_difference(goal: Goal, mode: int) -> None:
    assert compare(goal, seen(A, mode)) == Differences()
    assert compare(goal, seen(A, mode)).all() == ()


@pytest.mark.parametrize("mode", [0o644, 0o775, 0o757, 0o777, 0o055])
def test_a_mode_that_is_no_good(mode: int) -> None:
    assert compare(PINNED, seen(A, mode)) == Differences(access=(f"/bin/llama-box_v0.0.139 has the mode {mode:04o}",))


def test_content() -> None:
    assert compare(PINNED, seen(B, 0o777)).content == (f"/bin/llama-box_v0.0.139 has the sha256 {B}, and v0.0.139 has {A}",)
    assert compare(PINNED, seen(B, 0o777)).access == ()
    assert compare(PINNED, seen(None)).content == ("/bin/llama-box_v0.0.139 is not a regular file",)
    assert compare(PINNED, Seen()).content == ("/bin/llama-box_v0.0.139 is missing",)


def test_the_link() -> None:
    wrong = Differences(link=("/t/llama-box-rpc-server does not lead to llama-box",))
    assert compare(BUILTIN, seen(has_link=False)) == wrong
    assert compare(PINNED, seen(has_link=False)) == Differences()
    assert Differences(("a",), ("b",), ("c",)).all() == ("a", "b", "c")


def test_a_folder() -> None:
    good = {"libggml.dylib": SeenFile(B, 0o644)}
    assert compare(FOLDER, seen(A, **good)) == Differences()
    # A library need not be executable, but nobody else may write it.
    assert compare(FOLDER, seen(A, **{"libggml.dylib": SeenFile(B, 0o664)})).access == ("/t/f/libggml.dylib has the mode 0664",)
    assert compare(FOLDER, seen(A)).content == ("/t/f/libggml.dylib is missing",)
    bad = {"libggml.dylib": SeenFile(C, 0o644), "libold.dylib": SeenFile(C, 0o644)}
    assert compare(FOLDER, seen(B, **bad)).content == (
        f"/t/f/libggml.dylib has the sha256 {C}, and v0.0.171 has {B}",
        "/t/f/libold.dylib does not belong to v0.0.171",
        f"/t/f/llama-box has the sha256 {B}, and v0.0.171 has {A}",
    )


def test_nothing_is_wanted() -> None:
    assert compare(NOTHING, seen(None)) == Differences(content=("/bin/llama-box_v0.0.139 is there",))
    assert compare(NOTHING, Seen()) == Differences()
    assert compare(NOTHING, Seen(has_link=False)) == Differences()


@pytest.mark.parametrize(
    ("goal", "found", "expected"),
    [
        (NOTHING, seen(), "removed"),
        (PINNED, Seen(), "installed"),
        (FOLDER, Seen({"libggml.dylib": SeenFile(B, 0o644)}), "installed"),
        (PINNED, seen(B, version="v0.0.136"), "upgraded"),
        (PINNED, seen(B, version="v0.0.144"), "downgraded"),
        (PINNED, seen(B, version="v0.0.139"), "repaired"),
        (PINNED, seen(B, version=None), "repaired"),
        (PINNED, seen(B, version="my own build"), "repaired"),
        (dataclasses.replace(PINNED, version=None), seen(B), "repaired"),
        (PINNED, seen(A, 0o644, version="v0.0.136"), "repaired"),
    ],
)
def test_action(goal: Goal, found: Seen, expected: str) -> None:
    assert action_of(goal, found, compare(goal, found)) == expected


def test_change() -> None:
    found = seen(B)
    assert change_of(PINNED, found, compare(PINNED, found)) == {
        "resource": "llama_box",
        "where": "/bin/llama-box_v0.0.139",
        "action": "upgraded",
        "name": "pinned",
        "from": "v0.0.136",
        "to": "v0.0.139",
    }


def test_diffs() -> None:
    found = seen(B, 0o744, has_link=False)
    assert diff_of(BUILTIN, found, compare(BUILTIN, found)) == {
        "before_header": "/t/llama-box (llama-box v0.0.136)",
        "after_header": "/t/llama-box (llama-box v0.0.139)",
        "before": f"llama-box mode 0744 sha256 {B}\n",
        "after": f"llama-box mode 0755 sha256 {A}\nllama-box-rpc-server -> llama-box\n",
    }
    assert diff_of(BUILTIN, Seen(), compare(BUILTIN, Seen())) == {
        "before_header": "/t/llama-box (nothing)",
        "after_header": "/t/llama-box (llama-box v0.0.139)",
        "before": "",
        "after": f"llama-box mode 0755 sha256 {A}\nllama-box-rpc-server -> llama-box\n",
    }
    found = seen(None, version=None)
    assert diff_of(NOTHING, found, compare(NOTHING, found)) == {
        "before_header": "/bin/llama-box_v0.0.139 (an unknown llama-box)",
        "after_header": "/bin/llama-box_v0.0.139 (nothing)",
        "before": "llama-box mode 0755 sha256 not a regular file\n",
        "after": "",
    }


def test_a_diff_of_the_link_alone_shows_that_the_rest_stays() -> None:
    found = seen(A, 0o744, "v0.0.139", has_link=False)
    diff = diff_of(BUILTIN, found, compare(BUILTIN, found))
    assert diff["before"] == f"llama-box mode 0744 sha256 {A}\n"
    assert diff["after"] == f"llama-box mode 0744 sha256 {A}\nllama-box-rpc-server -> llama-box\n"


def test_a_diff_of_access_shows_the_new_mode() -> None:
    found = seen(A, 0o777, "v0.0.139")
    diff = diff_of(BUILTIN, found, compare(BUILTIN, found))
    assert diff["before"] == f"llama-box mode 0777 sha256 {A}\nllama-box-rpc-server -> llama-box\n"
    assert diff["after"] == f"llama-box mode 0755 sha256 {A}\nllama-box-rpc-server -> llama-box\n"


def test_result() -> None:
    assert slot_result(PINNED, seen(B)) == {
        "slot": "pinned",
        "path": "/bin/llama-box_v0.0.139",
        "version_before": "v0.0.136",
        "version": "v0.0.139",
        "build": "darwin-arm64-metal",
        "sha256": A,
    }
    assert slot_result(NOTHING, Seen()) == {
        "slot": "pinned",
        "path": "/bin/llama-box_v0.0.139",
        "version_before": None,
        "version": None,
        "build": None,
        "sha256": None,
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/Applications/GPUStack.app/Contents/Frameworks/gpustack/llama-box", "/Applications/GPUStack.app"),
        ("/Users/a/Some.app/data/llama-box", None),
        ("/venv/lib/llama-box", None),
    ],
)
def test_application_around(path: str, expected: str | None) -> None:
    assert application_around(path) == expected


@pytest.mark.parametrize(
    ("own", "recorded", "says"),
    [
        (None, None, None),
        (None, "v0.0.1", None),
        ("v0.0.154", "v0.0.154", None),
        ("v0.0.154", "v0.0.144", "names v0.0.144 for it and not v0.0.154"),
        ("v0.0.154", None, "does not name v0.0.154"),
    ],
)
def test_replacement_at_start(own: str | None, recorded: str | None, says: str | None) -> None:
    sentence = (
        f"GPUStack downloads its own llama-box v0.0.154 over /p when it starts next, as its versions.json {says};"
        " restart GPUStack once so that it does, and run this again"
    )
    assert replacement_at_start("/p", own, recorded) == (sentence if says else "")


def test_constants() -> None:
    assert (plans.RPC_LINK, plans.MODE) == ("llama-box-rpc-server", 0o755)
    assert plans.RESTART_REASON == "the builtin llama-box changes, and RPC servers run the old one until GPUStack starts anew"

# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module on a Mac in memory, from its options to its result."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, ServiceError
from ansible_collections.metalfleet.gpustack.plugins.modules import llama_box
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import FakeLaunchd
from ansible_collections.metalfleet.gpustack.tests.unit.installations import metadata
from ansible_collections.metalfleet.gpustack.tests.unit.llama_box_nodes import (
    ARCHIVES,
    BIN_DIR,
    BUILTIN_0_6,
    RECORD,
    SITE,
    STATE,
    STATIC,
    STORE,
    THIRD_PARTY,
    BoxHost,
    lock_data,
    node,
    program,
)

PINNED = f"{BIN_DIR}/llama-box_v0.0.139"
LOCK = f"{STATE}/lock"
DOCUMENTED = yaml.safe_load(llama_box.DOCUMENTATION)["options"]
DEFAULTS = {name: option.get("default") for name, option in DOCUMENTED.items()}
REASON = "the builtin llama-box changes, and RPC servers run the old one until GPUStack starts anew"


class Mac(FakeLaunchd, BoxHost):
    """A Mac with GPUStack 0.6.2 that runs. overwritten: GPUStack puts its own program into the builtin slot at each start."""

    overwritten = False

    def __init__(self) -> None:
        super().__init__()
        self.put("/venv/bin/gpustack", b"#!/venv/bin/python\n")
        self.put("/venv/bin/python", b"")
        self.put("/venv/pyvenv.cfg", b"")
        self.put(f"{SITE}/gpustack-0.6.2.dist-info/METADATA", metadata("0.6.2"))
        self.put(f"{SITE}/gpustack/__init__.py", b"")
        self.link("/usr/local/bin/gpustack", "/venv/bin/gpustack")
        node("0.6.2", self)
        self.http[(80, "/healthz")] = 200

    def _start(self) -> None:
        super()._start()
        if self.overwritten:
            self.put(BUILTIN_0_6, program("v0.0.154"))

    def bootouts(self) -> int:
        return len(self.used("bootout"))


def run(mac: Mac, check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
    given = {**DEFAULTS, "version": "v0.0.139", "lock": lock_data(), "source": "folder", "folder": ARCHIVES, **options}
    result, warnings = llama_box.run(given, mac, check_mode)  # type: ignore[arg-type]
    return {**result, "warnings": warnings}


def test_the_documentation_says_what_the_argument_spec_does() -> None:
    assert set(DOCUMENTED) == set(llama_box.ARGUMENT_SPEC)
    for name, option in llama_box.ARGUMENT_SPEC.items():
        documented = {key: value for key, value in DOCUMENTED[name].items() if key != "description"}
        assert {key: value for key, value in option.items() if key != "no_log"} == documented, name


def test_changed_and_then_not() -> None:
    mac = Mac()
    result = run(mac, restart="now", settle_seconds=0.0)
    assert [(change["action"], change["where"]) for change in result["changes"]] == [("installed", PINNED), ("downgraded", BUILTIN_0_6)]
    assert (result["changed"], result["applied"], result["restarted"], result["restart_pending"]) == (True, True, True, False)
    assert (result["restart_reasons"], mac.bootouts(), result["warnings"]) == ([REASON], 1, [])
    assert result["health"]["after"]["running"] is True
    assert [diff["after_header"] for diff in result["diff"]] == [
        f"{PINNED} (llama-box v0.0.139)",
        f"{BUILTIN_0_6} (llama-box v0.0.139)",
        "the service",
    ]
    files = {path: file.content for path, file in mac.files.items() if path != LOCK}
    again = run(mac, restart="now", settle_seconds=0.0)
    assert (again["changed"], again["changes"], again["restarted"], again["diff"], mac.bootouts()) == (False, [], False, [], 1)
    assert [slot["version"] for slot in again["slots"]] == ["v0.0.139", "v0.0.139"]
    assert {path: file.content for path, file in mac.files.items() if path != LOCK} == files


def test_check_mode_announces_what_the_run_does_and_does_nothing() -> None:
    mac = Mac()
    files = dict(mac.files)
    announced = run(mac, check_mode=True, restart="now", settle_seconds=0.0)
    assert (mac.files, mac.bootouts()) == (files, 0)
    done = run(mac, restart="now", settle_seconds=0.0)
    assert (announced.pop("applied"), done.pop("applied")) == (False, True)
    assert (announced.pop("health") is None, done.pop("health") is None) == (True, False)
    assert announced == done


def test_check_mode_needs_no_archive() -> None:
    mac = Mac()
    mac.remove(ARCHIVES)
    assert run(mac, check_mode=True, source="push", archives_folder="archives")["changed"] is True


def test_a_restart_that_is_not_wanted_is_not_forgotten() -> None:
    mac = Mac()
    for changed in (True, False):
        result = run(mac, restart="never")
        assert (result["changed"], result["restarted"], result["restart_pending"]) == (changed, False, True)
        assert result["restart_reasons"] == [REASON]
        assert any(warning.startswith("a restart is pending") for warning in result["warnings"])
    assert run(mac, settle_seconds=0.0)["restarted"] is True
    assert (mac.bootouts(), run(mac)["restart_pending"]) == (1, False)


def test_a_pinned_slot_alone_needs_no_restart() -> None:
    mac = Mac()
    result = run(mac, slots=["pinned"], restart="now")
    assert (result["changed"], result["restarted"], result["restart_pending"], mac.bootouts()) == (True, False, False, 0)


def test_settle_seconds() -> None:
    mac = Mac()
    before = mac.clock
    run(mac, restart="now", settle_seconds=40.0)
    assert mac.clock >= before + 40.0


def test_archives_that_the_controller_has_to_bring() -> None:
    mac = Mac()
    files = {*mac.files, LOCK}
    release = lock_data()["releases"]["v0.0.139"][STATIC]
    result = run(mac, source="push", archives_folder="archives")
    assert result == {
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
        "warnings": [],
    }
    assert set(mac.files) == files
    brought = {release["sha256"]: f"{ARCHIVES}/v0.0.139/llama-box-darwin-arm64-metal.zip"}
    assert run(mac, source="push", archives_folder="archives", archives=brought)["changed"] is True


def test_the_node_gets_worse() -> None:
    mac = Mac()
    before = {path: file.content for path, file in mac.files.items()}
    mac.dies = True
    with pytest.raises(ServiceError, match=r"everything that was changed was put back"):
        run(mac, restart="now", settle_seconds=0.0)
    # The store may keep what was fetched; the slots and what is remembered of them are as before.
    after = {path: file.content for path, file in mac.files.items()}
    assert {path: content for path, content in after.items() if path.startswith((THIRD_PARTY, BIN_DIR))} == {
        path: content for path, content in before.items() if path.startswith((THIRD_PARTY, BIN_DIR))
    }
    assert mac.status(RECORD) is None


def test_gpustack_overwrites_the_builtin_slot_whatever_its_record_says() -> None:
    mac = Mac()
    mac.overwritten = True
    with pytest.raises(ServiceError, match=rf"^the service was restarted, and {BUILTIN_0_6} has the sha256 "):
        run(mac, restart="now", settle_seconds=0.0)
    # Not again: it would only stop the models.
    with pytest.raises(ServiceError):
        run(mac, restart="now", settle_seconds=0.0)
    assert mac.bootouts() == 1


def test_a_replacement_to_come_is_refused_before_anything_changes() -> None:
    mac = Mac()
    mac.put(f"{THIRD_PARTY}/versions.json", json.dumps({"llama-box": "v0.0.144"}).encode(), 0o644)
    before = {path: file.content for path, file in mac.files.items()}
    with pytest.raises(BadInputError, match=r"^nothing was changed, as a restart would not help: GPUStack downloads its own llama-box v0"):
        run(mac, restart="now")
    assert {path: file.content for path, file in mac.files.items() if path in before} == before


def test_absent() -> None:
    mac = Mac()
    run(mac, restart="now", settle_seconds=0.0)
    result = run(mac, state="absent", version=None, lock=None, restart="now", settle_seconds=0.0)
    assert (result["changed"], result["restarted"]) == (True, True)
    assert mac.content(BUILTIN_0_6) == program("v0.0.154")
    assert [mac.status(path) for path in (PINNED, STORE, RECORD)] == [None, None, None]
    assert run(mac, state="absent", version=None, lock=None)["changed"] is False


def test_service_name() -> None:
    with pytest.raises(BadInputError, match=r"^service_name: there is no service com\.example\.gpustack on this host"):
        run(Mac(), service_name="com.example.gpustack")


def test_no_gpustack() -> None:
    mac = Mac()
    mac.remove("/Library/LaunchDaemons/ai.gpustack.plist")
    with pytest.raises(BadInputError, match=r"^where GPUStack looks for llama-box cannot be told, as there is no service ai\.gpustack"):
        run(mac, check_mode=True)


def test_options_are_checked_before_anything_is_looked_at() -> None:
    with pytest.raises(BadInputError, match=r"^version is missing"):
        run(Mac(), version=None)


def test_no_secret_is_told() -> None:
    result = run(Mac(), url_username="me", url_password="synthetic-secret")
    assert "synthetic-secret" not in str(result)
    assert "synthetic-secret" not in str(run(Mac(), url_token="synthetic-secret"))

# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the options to the resource; what each option does is tested through the module."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.environment_setup import environment_resource
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import find_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_request import OPTIONS
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import VIRTUAL_NAMES
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import PLIST, FakeLaunchd

DEFAULTS = {name: option.get("default") for name, option in OPTIONS.items()}
QUESTION = ("/usr/sbin/sysctl", *VIRTUAL_NAMES)


def mac(is_virtual: t.Optional[bool] = False) -> FakeLaunchd:
    host = FakeLaunchd()
    if is_virtual is not None:
        host.commands[QUESTION] = CommandResult(0, f"kern.hv_vmm_present: {int(is_virtual)}\n", "")
    return host


def set_up(host: FakeLaunchd, **options: t.Any) -> t.Tuple[t.Dict[str, t.Any], t.Tuple[str, ...]]:
    """The resource's own part of the result, and the doubts."""
    resource, doubts = environment_resource(host, find_installation(host), {**DEFAULTS, **options})  # type: ignore[arg-type]
    return dict(resource.plan().result), doubts


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"^path: etc/x is relative; write it from / on$"):
        set_up(mac(), path="etc/x")


@pytest.mark.parametrize(
    ("option", "is_virtual", "removed", "asked"),
    [("auto", False, True, True), ("auto", True, False, True), ("absent", True, True, False), ("unmanaged", False, False, False)],
)
def test_whether_the_mac_is_virtual_is_asked_only_where_it_matters(option: str, is_virtual: bool, removed: bool, asked: bool) -> None:
    host = mac(is_virtual)
    result, doubts = set_up(host, residency_variable=option)
    assert (result["residency"]["remove"], doubts) == (removed, ())
    assert (QUESTION in host.calls) is asked


def test_a_doubt_is_handed_on() -> None:
    result, doubts = set_up(mac(None))
    assert doubts == (result["residency"]["reason"],)
    assert "it cannot be told whether this is a virtual Mac" in doubts[0]


def test_giving_up_what_is_ours_needs_no_doubt() -> None:
    result, doubts = set_up(mac(None), state="absent", variables={"A": "1"})
    assert result["residency"] == {"remove": False, "reason": "state is absent: only what is ours is given up"}
    assert doubts == ()


def test_without_a_service_only_the_file_is_looked_at() -> None:
    host = mac()
    host.remove(PLIST)
    _result, doubts = set_up(host, path="/etc/other")
    assert doubts == ("no service ai.gpustack was found, so only /etc/other was looked at",)

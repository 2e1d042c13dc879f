# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.governed import governed_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import find_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost
from ansible_collections.metalfleet.gpustack.tests.unit.installations import script_mac, systemd_linux


@pytest.mark.parametrize("host", [script_mac("0.6.0"), script_mac("0.7.1"), systemd_linux("0.6.2")])
def test_what_is_governed(host: MemoryHost) -> None:
    assert governed_installation(host, None) == find_installation(host)  # type: ignore[arg-type]


def test_the_service_and_the_file_are_those_that_were_named() -> None:
    host = script_mac()
    found = governed_installation(host, "ai.gpustack", "/etc/default/other")  # type: ignore[arg-type]
    assert found == find_installation(host, "ai.gpustack", "/etc/default/other")  # type: ignore[arg-type]
    assert found.environment_file == "/etc/default/other"


@pytest.mark.parametrize(
    ("host", "name", "label"),
    [(script_mac(), "com.example", "com.example"), (systemd_linux(LoadState="not-found"), "other", "other.service")],
)
def test_a_named_service_has_to_exist(host: MemoryHost, name: str, label: str) -> None:
    with pytest.raises(BadInputError) as caught:
        governed_installation(host, name)  # type: ignore[arg-type]
    assert str(caught.value) == f"service_name: there is no service {label} on this host; correct the name, or leave it out"


def test_a_host_without_gpustack_is_governed_too() -> None:
    assert governed_installation(MemoryHost(), None).kind == "none"  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["2.0.1", "2.1.0"])
def test_a_gpustack_of_another_age_is_refused(version: str) -> None:
    with pytest.raises(BadInputError, match=rf"^GPUStack {re.escape(version)} is not supported: "):
        governed_installation(script_mac(version), None)  # type: ignore[arg-type]

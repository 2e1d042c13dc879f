# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is on the hosts after all that: a receipt for root alone, without a secret, and the service in its state."""

from __future__ import annotations

import typing as t

import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host


def receipt(host: Host) -> t.Any:
    folders = ("/var/db/metalfleet", "/var/lib/metalfleet")
    return next(file for file in (host.file(f"{folder}/receipt") for folder in folders) if file.exists)


def test_the_receipt_is_roots_alone(host: Host) -> None:
    file = receipt(host)
    assert (file.user, file.mode, file.is_file) == ("root", 0o600, True)


def test_the_receipt_has_no_secret(host: Host) -> None:
    text = receipt(host).content_string
    assert "canary" not in text
    assert seen.ENVIRONMENT_FILE in text
    assert "\ngap " not in text


def test_systemd_is_asked_on_the_bus(host: Host) -> None:
    text = receipt(host).content_string
    asked = [line.split(" ")[3:] for line in text.splitlines() if line.startswith("bus ")]
    is_linux = host.backend.get_hostname() == "linux"
    assert [interface.rpartition(".")[2] for interface, _names in asked] == (["Unit", "Service", "Manager"] if is_linux else [])
    assert "systemctl\x1f" not in text


def test_the_service_is_as_wanted(host: Host) -> None:
    found = seen.processes(host)
    assert found
    for _name, environment in found:
        assert seen.VARIABLE not in environment
        assert environment["HF_TOKEN"] == "canary-secret-1"

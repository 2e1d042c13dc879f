# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.failures import EXPECTED, message_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.os_errors import reason
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import (
    BadInputError,
    CommandMissingError,
    GpustackError,
    HostError,
    ServiceError,
)
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost

HINT = "; this needs root: say `become: true`"
DENIED = "where it is cannot be told, as /x cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (HostError("/x cannot be written: Read-only file system"), HINT),
        (CommandMissingError("x does not exist on this host"), HINT),
        (BadInputError("version is missing"), ""),
        (ServiceError("the service does not run"), ""),
        (BadInputError(DENIED), HINT),
        (ServiceError(DENIED), HINT),
    ],
)
def test_who_is_not_root_is_told_so_where_that_may_be_why(error: GpustackError, hint: str) -> None:
    assert message_of(error, MemoryHost(uid=501)) == f"{error}{hint}"  # type: ignore[arg-type]
    assert message_of(error, MemoryHost(uid=0)) == str(error)  # type: ignore[arg-type]


@pytest.mark.parametrize("uid", [0, 501])
def test_memory_that_is_used_up_is_said_in_a_sentence(uid: int) -> None:
    said = "this host has no memory left for the run; free some, and run again, which goes on with what was begun"
    with pytest.raises(EXPECTED) as caught:
        bytearray(1 << 62)
    assert message_of(caught.value, MemoryHost(uid=uid)) == said  # type: ignore[arg-type]


def test_who_is_not_root_is_told_so_once() -> None:
    denied = OSError(errno.EACCES, "Permission denied")
    error = HostError(f"/x cannot be written: {reason(denied)}")
    assert message_of(error, MemoryHost(uid=501)).count("become") == 1

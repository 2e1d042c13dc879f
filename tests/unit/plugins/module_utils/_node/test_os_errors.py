# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One sentence for what the operating system refused."""

from __future__ import annotations

import errno
import os

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.os_errors import as_host_error
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import CommandMissingError, HostError

NO_SPACE = "No space left on device (are space or inodes used up, as `df` and `df -i` say?)"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), f"x failed: {NO_SPACE}"),
        (OSError(errno.EROFS, "no"), "x failed: no (is it mounted so, or has it become so by itself, after an error of the disk?)"),
        (OSError(errno.EACCES, "no"), "x failed: no"),
        (OSError(errno.EPERM, "no"), "x failed: no (is it marked immutable, or protected by macOS?)"),
        (OSError("without a number"), "x failed: without a number"),
    ],
)
def test_what_failed_and_why(error: OSError, text: str) -> None:
    with pytest.raises(HostError) as caught, as_host_error("x failed"):
        raise error
    assert str(caught.value) == text
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [CommandMissingError("y"), ZeroDivisionError(), KeyboardInterrupt()])
def test_everything_else_stays_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, as_host_error("x failed"):
        raise error
    assert caught.value is error

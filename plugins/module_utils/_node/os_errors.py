# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What the operating system refused, as a HostError."""

from __future__ import annotations

import contextlib
import errno
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError


@contextlib.contextmanager
def as_host_error(failure: str) -> t.Iterator[None]:
    """Turn an OSError into a HostError: what failed, such as "/etc/x cannot be written", and why."""
    try:
        yield
    except OSError as exc:
        raise HostError(f"{failure}: {reason(exc)}") from exc


def reason(exc: OSError) -> str:
    """Why a change was refused, with what is most often behind it."""
    if exc.errno == errno.EPERM:
        return f"{exc.strerror} (is it marked immutable, or protected by macOS?)"
    if exc.errno == errno.ENOSPC:
        return f"{exc.strerror} (are space or inodes used up, as `df` and `df -i` say?)"
    if exc.errno == errno.EROFS:
        return f"{exc.strerror} (is it mounted so, or has it become so by itself, after an error of the disk?)"
    return exc.strerror or str(exc)

# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The program of the fast path as it is sent: what asks the system bus, and what compares a receipt."""

from __future__ import annotations

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import receipt_check, system_bus

# Python wants it once in a program, and before all else.
_FUTURE = "from __future__ import annotations\n"


def program_source() -> str:
    """The program: two files, as they stand but for the second import from the future."""
    sources = []
    for path in (system_bus.__file__, receipt_check.__file__):
        with open(path, encoding="utf-8") as file:
            sources.append(file.read())
    return sources[0] + sources[1].replace(_FUTURE, "", 1)

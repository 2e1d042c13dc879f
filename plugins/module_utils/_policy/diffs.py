# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Changes in the form that Ansible prints with --diff."""

from __future__ import annotations

import typing as t


def diff_of(header: str, before: str, after: str) -> t.Dict[str, str]:
    """One changed thing. before, after: its text, whose last line ends with a line end; empty where it is not there."""
    return {"before_header": header, "after_header": header, "before": before, "after": after}

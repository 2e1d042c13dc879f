# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Where the fleet keeps what belongs to it, such as the lock file: beside its inventory."""

from __future__ import annotations

import os
import typing as t

from ansible.utils.path import unfrackpath


def beside_inventory(named: str, variables: t.Mapping[str, t.Any]) -> str:
    """An absolute path on the controller; a relative one counts from the folder of the first inventory.

    variables: those of the task, of which `ansible_inventory_sources` is read. An inventory may be a list of hosts, which is nowhere, and
    there may be none; then it is the working directory.
    """
    sources = variables.get("ansible_inventory_sources") or [""]
    return str(unfrackpath(named, follow=False, basedir=os.path.dirname(str(sources[0])) or None))

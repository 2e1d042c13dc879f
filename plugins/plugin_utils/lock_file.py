# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The lock file of llama-box releases on the controller."""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleError, AnsibleLookupError
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.beside_inventory import beside_inventory

if t.TYPE_CHECKING:
    from ansible.parsing.dataloader import DataLoader


def read_lock_file(loader: DataLoader, named: str, variables: t.Mapping[str, t.Any], required: bool = True) -> t.Any:
    """The content of a lock file, a relative one beside the first inventory; what it says is the module's to check.

    named: "" is as if there were no such file. variables: those of the task. Raises AnsibleLookupError where there is none, unless
    it is not required, which gives {}, and where nothing can be read from it.
    """
    path = named and beside_inventory(named, variables)
    if os.path.lexists(path):
        return _read(loader, path)
    if required:
        raise AnsibleLookupError(
            f"there is no lock file {path or 'named'}; write one with the playbook metalfleet.gpustack.lock, or say where on the"
            " controller it is (roles: in gpustack_node_llama_box_lock)"
        )
    return {}


def _read(loader: DataLoader, path: str) -> t.Any:
    try:
        content = loader.load_from_file(path, cache="none", unsafe=True)
    except (AnsibleError, UnicodeError) as exc:
        raise AnsibleLookupError(f"the lock file {path} cannot be read, restore it from version control: {exc}") from exc
    if not content:
        # Or it would count as none where none is required, and then nothing is locked.
        raise AnsibleLookupError(f"the lock file {path} is empty; restore it from version control")
    return content

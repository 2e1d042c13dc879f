# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What is wanted of a node, as a digest: receipts are about one, and the controller asks for it."""

from __future__ import annotations

import hashlib
import json
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.release import VERSION

# How to find out, and what of it is a failure, does not matter to what is wanted; the module itself looks whether these are valid. A node
# with anything that models_follow is about has no receipt that counts.
_HOW = ("verify", "receipt_max_age_hours", "receipt_for", "node_name", "models_follow")


def digest_of(options: t.Mapping[str, t.Any]) -> t.Optional[str]:
    """A digest of a task's options as they are given; None where there is none.

    Secrets are among them. It goes to the node through the standard input of a program, or as an option that is never logged, and
    only a salted digest of it is kept there, in a file for root alone.
    """
    wanted = {name: value for name, value in options.items() if name not in _HOW}
    try:
        # Not sorted: whether an order matters is not for this to say. Vaulted text and dates are what they are as text.
        text = json.dumps([VERSION, wanted], default=str)
    except (TypeError, ValueError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()

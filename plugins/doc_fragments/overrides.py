# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The option of modules that heed what a person decided; its specification is OVERRIDES_OPTION in _policy/mmap.py."""

    DOCUMENTATION = r"""
options:
  overrides:
    description:
      - What a person decided about mmap. The first entry that covers a model wins over the policy, and is reported as a risk where it
        is less careful than the policy.
      - One that names a model which is neither on the server nor in the play's list, or labels that no model of the list has, is warned
        of and is no error, since models come and go.
    type: list
    elements: dict
    default: []
    suboptions:
      mmap:
        description: What to do; V(default) leaves it to the backend.
        type: str
        choices: [no-mmap, default, mmap]
        required: true
      model:
        description: The model's name. Give either this or O(overrides[].labels).
        type: str
      labels:
        description: Labels, all of which a model has to have.
        type: dict
      reason:
        description: Why, for reports.
        type: str
"""

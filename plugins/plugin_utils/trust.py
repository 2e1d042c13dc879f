# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Text of ours that is a template. ansible-core 2.18 takes any text for one, later versions only what says that it is."""

from __future__ import annotations

try:
    from ansible.template import trust_as_template
except ImportError:
    trust_as_template = str

__all__ = ["trust_as_template"]

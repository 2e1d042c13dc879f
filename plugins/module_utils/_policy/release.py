# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Which release of the collection this is: nodes have no galaxy.yml, and a receipt counts for the release that wrote it."""

from __future__ import annotations

VERSION = "1.0.0"

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""Stand-ins for the programs of macOS that the collection asks; they run inside simulated Macs only."""

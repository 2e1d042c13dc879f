# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""Disposable hosts from kernel namespaces, overlayfs and OpenSSH; see ../README.md."""

# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The exceptions of the collection. Each message is one sentence a person can act on."""

from __future__ import annotations


class GpustackError(Exception):
    """Base of every failure below the modules; main() turns it into fail_json(msg=str(error))."""


class BadInputError(GpustackError):
    """An option or a file says something that cannot be carried out: what, where, and what to do."""


class HostError(GpustackError):
    """A file or command of the host did not do what it should."""


class CommandMissingError(HostError):
    """The program does not exist on this host."""


class CommandTimeoutError(HostError):
    """The program did not end within its time limit and was killed."""


class OverdueError(HostError):
    """What was begun did not end within its time limit."""


class ServiceError(GpustackError):
    """The service manager refused, or the service did not reach the wanted state in time."""

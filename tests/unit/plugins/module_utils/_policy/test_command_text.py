# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import command_text

SETENV = ("launchctl", "setenv", "NAME", "a secret")
SET_ENVIRONMENT = ("systemctl", "--no-pager", "set-environment", "NAME=a=secret")
SYSCTL = ("/usr/sbin/sysctl", "iogpu.wired_limit_mb=0")


@pytest.mark.parametrize(
    ("argv", "shown", "value", "subject"),
    [
        (SETENV, "launchctl setenv NAME (not shown)", "a secret", "NAME"),
        (SET_ENVIRONMENT, "systemctl --no-pager set-environment NAME=(not shown)", "a=secret", "NAME"),
        (("launchctl", "unsetenv", "NAME"), "launchctl unsetenv NAME", "", "NAME"),
        (("systemctl", "unset-environment", "NAME"), "systemctl unset-environment NAME", "", "NAME"),
        (SYSCTL, "/usr/sbin/sysctl iogpu.wired_limit_mb=0", "", "iogpu.wired_limit_mb"),
    ],
)
def test_the_value_of_a_variable_is_not_shown(argv: tuple[str, ...], shown: str, value: str, subject: str) -> None:
    assert (command_text.shown(argv), command_text.value(argv), command_text.subject(argv)) == (shown, value, subject)
    assert command_text.shown(list(argv)) == shown

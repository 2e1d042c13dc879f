# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What every module of the collection is to Ansible."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.validation import check_type_dict
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.option_secrets import secrets_in


class Module(AnsibleModule):  # type: ignore[misc,unused-ignore]
    """AnsibleModule, which shows no secret however it was given, and logs no option on the node.

    All that is overridden is public. The constructor itself fails by fail_json() where options are wrong.
    """

    def exit_json(self, **kwargs: t.Any) -> t.NoReturn:
        """Succeed."""
        self._know_secrets()
        super().exit_json(**kwargs)
        raise AssertionError

    def fail_json(self, msg: str, **kwargs: t.Any) -> t.NoReturn:
        """Fail."""
        self._know_secrets()
        super().fail_json(msg, **kwargs)
        raise AssertionError

    def log(self, msg: str, log_args: t.Optional[t.Mapping[str, t.Any]] = None) -> None:
        """Write to the node's log, which more than root may read, that the module was called, and not with which options.

        Ansible takes secrets out of the text that Python prints of a dictionary, where one with a backslash or a quote stands in
        another form and stays.
        """
        super().log("Invoked; its options are not logged" if log_args else msg)

    def _know_secrets(self) -> None:
        self.no_log_values.update(secrets_in(self.argument_spec, self.params, _as_mapping))


def _as_mapping(text: str) -> t.Optional[t.Mapping[str, t.Any]]:
    """As Ansible would take it."""
    try:
        given: t.Mapping[str, t.Any] = check_type_dict(text)
    except (TypeError, ValueError):
        return None
    return given

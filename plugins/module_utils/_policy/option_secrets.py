# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What in the options of a module must not be shown, also where they are wrong: who misspells `secrets` has not given up the secret.

Ansible knows the values of options that are marked with no_log, as they were given. It does not know them where a dictionary is
given as text, below a wrong key, or in an option of the wrong type, and then shows them among the module's arguments.
"""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import urls
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.secret_forms import forms

Spec = t.Mapping[str, t.Mapping[str, t.Any]]
# What a text says as a dictionary, None where it says none.
AsMapping = t.Callable[[str], t.Optional[t.Mapping[str, t.Any]]]

# Without it, the blank that somebody left at the end of "1 " would hide every 1.
_SHORTEST_STRIPPED = 8


def secrets_in(spec: Spec, options: t.Mapping[str, t.Any], as_mapping: AsMapping) -> t.FrozenSet[str]:
    """The texts to hide. spec: the module's argument specification."""
    return frozenset(_of_options(spec, options, as_mapping))


def _of_options(spec: Spec, options: t.Mapping[str, t.Any], as_mapping: AsMapping) -> t.Iterator[str]:
    for name, value in options.items():
        option = spec.get(name)
        if option is None or option.get("no_log"):
            yield from _texts(value, as_mapping)
        elif "options" in option:
            for one in value if isinstance(value, (list, tuple)) else (value,):
                given = as_mapping(one) if isinstance(one, str) else one
                if isinstance(given, t.Mapping):
                    yield from _of_options(option["options"], given, as_mapping)
                else:
                    # Nobody can tell what of it is one.
                    yield from _texts(one, as_mapping)
        elif isinstance(value, str):
            yield from urls.secrets_in(value)


def _texts(value: t.Any, as_mapping: AsMapping) -> t.Iterator[str]:
    """Every text in a value, and how each may stand in a message."""
    if isinstance(value, t.Mapping):
        for one in value.values():
            yield from _texts(one, as_mapping)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _texts(one, as_mapping)
    elif isinstance(value, str):
        yield from forms(value)
        stripped = value.strip()
        if len(stripped) >= _SHORTEST_STRIPPED:
            yield from forms(stripped)
        given = as_mapping(value)
        if given is not None:
            yield from _texts(given, as_mapping)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)

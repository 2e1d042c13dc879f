# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Property lists as bytes: read them whatever their format, and write them back in the format they had."""

from __future__ import annotations

import dataclasses
import plistlib
import typing as t
import xml.parsers.expat

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError

ENVIRONMENT_KEY = "EnvironmentVariables"


@dataclasses.dataclass(frozen=True)
class PropertyList:
    """A launchd job's property list. is_binary: the format it was read in."""

    content: dict[str, t.Any]
    is_binary: bool

    def environment(self) -> dict[str, t.Any]:
        """The job's own environment; empty where the list has none, or something that is none."""
        value = self.content.get(ENVIRONMENT_KEY)
        return dict(value) if isinstance(value, dict) else {}

    def with_environment(self, environment: t.Mapping[str, t.Any]) -> PropertyList:
        """The same list with this environment; the key goes where nothing is left in it, as install.sh writes none then."""
        content = dict(self.content)
        if environment:
            content[ENVIRONMENT_KEY] = dict(environment)
        else:
            content.pop(ENVIRONMENT_KEY, None)
        return PropertyList(content, self.is_binary)

    def encode(self) -> bytes:
        """The bytes of the list, its keys in the order they had."""
        return plistlib.dumps(self.content, fmt=plistlib.FMT_BINARY if self.is_binary else plistlib.FMT_XML, sort_keys=False)


def parse(data: bytes, path: str) -> PropertyList:
    """Read a property list; raises BadInputError that says what is wrong with the file at path and what to do."""
    try:
        content = plistlib.loads(data)
        plist = PropertyList(content, data.startswith(b"bplist00"))
        # What can be read can be too deep to be written, or have keys that are no texts.
        plist.encode()
    except (xml.parsers.expat.ExpatError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        # plistlib lets all of these out: AttributeError of a <date> that is none, LookupError of an unknown encoding.
        # install.sh copies values without escaping, so that one `&` makes a file that launchd cannot read either.
        raise BadInputError(
            f"{path} is not a property list that can be read ({_reason(exc)});"
            " repair it (`plutil -lint` names the line) or run install.sh again"
        ) from exc
    if not isinstance(content, dict):
        raise BadInputError(f"{path} holds no dictionary, so it is no launchd job; run install.sh again")
    return plist


def _reason(exc: Exception) -> str:
    # Only expat's own words ("not well-formed (invalid token): line 12, column 40") are sure to quote no content.
    return str(exc) if isinstance(exc, xml.parsers.expat.ExpatError) else type(exc).__name__

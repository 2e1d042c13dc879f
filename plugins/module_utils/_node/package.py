# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""GPUStack's Python package on a node: where it lies and which version it is, without importing or running it.

Running `gpustack version` imports the whole server, as root, and takes seconds; its metadata says the same.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.lookout import Lookout
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import property_list, versions
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError

# Console scripts are a few hundred bytes; anything longer is a program of another kind.
_SCRIPT_LIMIT_BYTES = 64 * 1024

# pip writes `#!PYTHON`, or, where the path is long or has blanks, a sh line `'''exec' "PYTHON" "$0" "$@"`.
_INTERPRETERS = (
    re.compile(r"""\A\#![ ]?(/[^\n]*/python[\d.]*)[^\n/]*$""", re.MULTILINE),
    re.compile(r"""["'](/[^"'\n]*/python[\d.]*)["']"""),
    re.compile(r"""(/[^\s"'<>|;&]*/python[\d.]*)\b"""),
)
_PYTHON_NAME = re.compile(r"python[\d.]*\Z")
_LIBRARY_NAME = re.compile(r"python(?:3(?:\.\d+)?)?\Z")
_METADATA_NAME = re.compile(r"gpustack-(?P<version>[^-]+)\.dist-info\Z", re.IGNORECASE)
_METADATA_VERSION = re.compile(rb"^Version:[ \t]*(\S+)", re.MULTILINE)
_OWN_VERSION = re.compile(rb"^__version__[ \t]*=[ \t]*['\"]v?([^'\"]+)['\"]", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Package:
    """GPUStack's package. venv: the virtual environment it lies in, None where it is none. version: None if unknown."""

    site_packages: t.Optional[str] = None
    venv: t.Optional[str] = None
    version: t.Optional[str] = None

    @property
    def third_party_bin(self) -> t.Optional[str]:
        """The folder of the builtin tools."""
        return f"{self.site_packages}/gpustack/third_party/bin" if self.site_packages else None


def application_of(program: str) -> t.Optional[str]:
    """The macOS application that a program lies in, such as /Applications/GPUStack.app; None where it lies in none."""
    match = re.match(r"(/.*?\.app)/Contents/", program)
    return match.group(1) if match else None


def find_package(look: Lookout, program: str) -> Package:
    """The package that a program named gpustack (or a python that runs it) belongs to."""
    application = application_of(look.host.resolve(program))
    warned = len(look.warnings)
    package = (_frozen(look, application) if application else None) or _installed(look, program)
    if package is not None:
        return package
    if application:
        return _without_package(look, application)
    if len(look.warnings) == warned:
        look.warn(f"no GPUStack package was found for {program}, so its version and its llama-box are not known")
    return Package()


def find_in_application(look: Lookout, application: str) -> Package:
    """The package inside the application of the Desktop package."""
    return _frozen(look, application) or _without_package(look, application)


def _frozen(look: Lookout, application: str) -> t.Optional[Package]:
    """What PyInstaller made of the package (gpustack-helper, darwin.spec).

    PyInstaller 6 starts from Frameworks and links what is data from there to Resources; older ones used MacOS.
    """
    contents = f"{application}/Contents"
    for folder in (f"{contents}/Frameworks", f"{contents}/Resources", f"{contents}/MacOS"):
        if "third_party" in look.names(f"{folder}/gpustack"):
            return Package(folder, None, _version(look, folder, look.names(folder)) or _application_version(look, contents))
    return None


def _without_package(look: Lookout, application: str) -> Package:
    look.warn(f"{application} holds no gpustack/third_party where it was looked for, so its llama-box is not known")
    return Package(version=_application_version(look, f"{application}/Contents"))


def _installed(look: Lookout, program: str) -> t.Optional[Package]:
    """The package in the virtual environment, or the Python, that the program is a console script of."""
    for prefix in _prefixes(look, program):
        for folder in _library_folders(look, prefix):
            names = look.names(folder)
            if "gpustack" in names or any(_METADATA_NAME.match(name) for name in names):
                has_venv = look.status(f"{prefix}/pyvenv.cfg") is not None
                return Package(folder, prefix if has_venv else None, _version(look, folder, names))
    return None


def _prefixes(look: Lookout, program: str) -> t.List[str]:
    """The folders above bin/ that the package may belong to, the most telling first."""
    real = look.host.resolve(program)
    interpreter = program if _PYTHON_NAME.match(posixpath.basename(program)) else _interpreter(look, real)
    # The python of a virtual environment is a link to the one it was made with: the link's own place is what counts.
    programs = [interpreter, look.host.resolve(interpreter)] if interpreter else []
    prefixes = [posixpath.dirname(posixpath.dirname(path)) for path in [*programs, program, real]]
    return list(dict.fromkeys(prefix for prefix in prefixes if prefix.strip("/")))


def _interpreter(look: Lookout, path: str) -> t.Optional[str]:
    if look.is_missing(path):
        look.warn(f"the program {path} of the service does not exist, so the service cannot start")
    status = look.status(path)
    if status is None or not status.is_file or status.size_bytes > _SCRIPT_LIMIT_BYTES:
        return None
    text = (look.read(path, _SCRIPT_LIMIT_BYTES) or b"").decode("utf-8", "replace")
    for pattern in _INTERPRETERS:
        match = pattern.search(text)
        if match:
            return match.group(1)
    return None


def _library_folders(look: Lookout, prefix: str) -> t.Iterator[str]:
    for library in (f"{prefix}/lib", f"{prefix}/lib64"):
        # The newest Python first, as the one most likely in use where an upgrade left an old folder behind.
        names = sorted(filter(_LIBRARY_NAME.match, look.names(library)), key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
        for name in reversed(names):
            yield f"{library}/{name}/site-packages"
            yield f"{library}/{name}/dist-packages"


def _version(look: Lookout, folder: str, names: t.Iterable[str]) -> t.Optional[str]:
    found = []
    for name in names:
        match = _METADATA_NAME.match(name)
        if match:
            line = _METADATA_VERSION.search(look.read(f"{folder}/{name}/METADATA") or b"")
            found.append(line.group(1).decode("ascii", "replace") if line else match.group("version"))
    if len(found) == 1:
        return found[0]
    # None or several: an interrupted upgrade leaves the metadata of both versions behind.
    own = _OWN_VERSION.search(look.read(f"{folder}/gpustack/__init__.py") or b"")
    version = own.group(1).decode("ascii", "replace") if own else None
    if found:
        look.warn(
            f"{folder} holds the metadata of several GPUStack versions ({', '.join(found)}), as an interrupted upgrade leaves it; "
            "install GPUStack anew"
        )
    return version if version and versions.series(version) else None


def _application_version(look: Lookout, contents: str) -> t.Optional[str]:
    path = f"{contents}/Info.plist"
    data = look.read(path)
    if data is None:
        look.warn(f"{path} could not be read, so GPUStack's version is not known")
        return None
    try:
        value = property_list.parse(data, path).content.get("CFBundleShortVersionString")
    except BadInputError as exc:
        look.warn(str(exc))
        return None
    return value if isinstance(value, str) and versions.parse(value) else None

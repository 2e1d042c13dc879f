# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Archives of llama-box from the controller to a node, only those that it lacks.

A module that lacks archives changes nothing and returns them in `archives_needed`. push() copies them and returns the options
with which the module finds them.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import os
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.builds import is_build, is_version
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import TAMPERED, places_in_folder
from ansible_collections.metalfleet.gpustack.plugins.plugin_utils.beside_inventory import beside_inventory

if t.TYPE_CHECKING:
    from ansible.plugins.action import ActionBase

_PIECE_BYTES = 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Needed:
    """An archive that a node lacks."""

    version: str
    build: str
    sha256: str
    size_bytes: int


def run_with_archives(
    action: ActionBase,
    run_module: t.Callable[[dict[str, t.Any]], dict[str, t.Any]],
    options: t.Mapping[str, t.Any],
    below: str | None = None,
    task_vars: t.Mapping[str, t.Any] | None = None,
) -> dict[str, t.Any]:
    """Run a module, and where it asks for archives bring them and run it once more; what was copied is removed at the end.

    below: the option that has the llama-box options, None where the module itself has them. task_vars: those of the task, which
    say where the inventory is.
    """
    try:
        given = dict(options)
        result = run_module(dict(given))
        needed = archives_needed(result)
        if needed:
            if below is None:
                given = push(action, given, needed, task_vars)
            elif isinstance(given[below], t.Mapping):
                given[below] = push(action, given[below], needed, task_vars)
            else:
                raise AnsibleActionFail(f"{below}: archives can be brought only where it is a dictionary, and this is text")
            result = run_module(given)
            if archives_needed(result):
                raise AnsibleActionFail("the archives were copied to the node, and the module there does not see them; run again with -vvv")
        return result
    finally:
        action._remove_tmp_path(action._connection._shell.tmpdir)


def archives_needed(result: t.Mapping[str, t.Any]) -> list[Needed]:
    """The archives that a module asks for in its result; none where it went on without."""
    needed = [
        Needed(str(one["version"]), str(one["build"]), str(one["sha256"]), int(one["size_bytes"]))
        for one in result.get("archives_needed") or []
    ]
    for one in needed:
        # The node's words become a path on the controller.
        if not is_version(one.version) or not is_build(one.build):
            raise AnsibleActionFail(f"the node asks for {one.version!r} {one.build!r}, which no archive of llama-box is called")
    return needed


def push(
    action: ActionBase,
    options: t.Mapping[str, t.Any],
    needed: t.Iterable[Needed],
    task_vars: t.Mapping[str, t.Any] | None = None,
) -> dict[str, t.Any]:
    """Copy the archives to the node; returns the llama-box options with them filled in. Raises AnsibleActionFail.

    They lie in the temporary folder of the task, which the caller removes after the module has run again.
    """
    if not options.get("archives_folder"):
        raise AnsibleActionFail("the node asks for archives, and archives_folder does not say where the controller has them")
    folder = _folder_of_archives(action, str(options["archives_folder"]), task_vars or {})
    sources = {one.sha256: find_archive(folder, one) for one in needed}
    shell = action._connection._shell
    if shell.tmpdir is None:
        action._make_tmp_path()
    archives = {sha256: shell.join_path(shell.tmpdir, f"{sha256}.zip") for sha256 in sources}
    for sha256, source in sources.items():
        action._transfer_file(source, archives[sha256])
    action._fixup_perms2([shell.tmpdir, *archives.values()])
    return {**options, "archives": archives}


def _folder_of_archives(action: ActionBase, named: str, task_vars: t.Mapping[str, t.Any]) -> str:
    """The folder, a relative one beside the first inventory, as the lock file; beside the playbook if it is only there."""
    beside_playbook = str(action._loader.path_dwim(named))
    if not task_vars.get("ansible_inventory_sources"):
        return beside_playbook
    beside = beside_inventory(named, task_vars)
    return beside_playbook if os.path.isdir(beside_playbook) and not os.path.isdir(beside) else beside


def find_archive(folder: str, needed: Needed) -> str:
    """The path of an archive on the controller, which has the size and digest of the lock. Raises AnsibleActionFail."""
    places = places_in_folder(folder, needed.version, needed.build)
    for path in places:
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                digest = _shared_digest(path, status, file) if status.st_size == needed.size_bytes else "another one, as its size shows"
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise AnsibleActionFail(f"{path} on the controller cannot be read: {exc.strerror}") from exc
        if digest != needed.sha256:
            raise AnsibleActionFail(
                f"{path} on the controller is not the archive of llama-box {needed.version} ({needed.build}) that the lock names: it has "
                f"{status.st_size} bytes with the sha256 {digest}, and not {needed.size_bytes} with {needed.sha256}: {TAMPERED}"
            )
        return path
    raise AnsibleActionFail(
        f"archives_folder: the archive of llama-box {needed.version} ({needed.build}) is not on the controller, at {' or '.join(places)}; "
        "put it there, or use another source"
    )


def _shared_digest(path: str, status: os.stat_result, file: t.BinaryIO) -> str:
    """The digest of a file, computed once for all hosts of this run: each of them has a process of its own."""
    key = hashlib.sha256(repr((path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)).encode()).hexdigest()
    # Ansible makes this folder for each run, for this user alone, and removes it at the end.
    with open(os.path.join(C.DEFAULT_LOCAL_TMP, f"metalfleet-{key}"), "a+", encoding="ascii") as shared:
        fcntl.flock(shared, fcntl.LOCK_EX)
        shared.seek(0)
        known = shared.read()
        if len(known) == 64:
            return known
        digest = hashlib.sha256()
        for piece in iter(lambda: file.read(_PIECE_BYTES), b""):
            digest.update(piece)
        # What a process that died left there is no digest.
        shared.truncate(0)
        shared.write(digest.hexdigest())
        return digest.hexdigest()

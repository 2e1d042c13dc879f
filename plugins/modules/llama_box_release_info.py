#!/usr/bin/python
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: llama_box_release_info
short_description: Find releases of llama-box and their digests, for the lock file of a fleet
version_added: 1.0.0
author:
  - The metalfleet.gpustack contributors (!UNKNOWN)
description:
  - Downloads the wanted releases of llama-box once, or reads them from a folder, and returns what a lock file says of them,
    the size and the SHA-256 digest of each archive and of each file in it. Nodes refuse every archive that is not in the lock.
  - Run it on the controller. The playbook C(metalfleet.gpustack.lock) calls it and writes the file.
  - A release that is in the lock already stays as it is, and is not fetched again to compare it, unless O(verify) is set, its
    archive is to be kept (O(archives_folder)), or O(folder) is given. An archive that is looked at and differs from the lock
    is refused, since a published release does not change.
  - Archives come from GitHub's pages of releases, or from a mirror of them. The GitHub API, with its limits, is not used.
options:
  versions:
    description:
      - Versions of llama-box, such as V(v0.0.139).
    type: list
    elements: str
    required: true
  platforms:
    description:
      - Platforms, such as V(darwin-arm64-metal), V(linux-amd64-avx2), V(linux-arm64-neon) or V(linux-amd64-cuda-12.4).
      - For each version and platform the lock gets every build that a node may need. That is the static one, for GPUStack
        0.6 and for 0.7 with C(GPUSTACK_DISABLE_DYNAMIC_LINK_LLAMA_BOX), and from v0.0.157 on also the dynamic one, C(dl-…),
        for GPUStack 0.7.
      - It is an error if none of the builds of a platform exists, and a warning that says which GPUStack cannot be given the
        version if only some do.
    type: list
    elements: str
    default: []
  builds:
    description:
      - Builds by their own names, such as V(dl-linux-amd64-cpu). Each has to exist.
    type: list
    elements: str
    default: []
  known:
    description:
      - The content of the lock so far. What is in it stays in it. Without content there is no lock yet.
    type: dict
    default: {}
  lock_file:
    description:
      - What messages call O(known), such as the path of the file that it is from. Nothing is read or written there.
    type: str
    default: lock
  verify:
    description:
      - Whether also those wanted releases that are in the lock already are fetched, and compared with it.
    type: bool
    default: false
  base_url:
    description:
      - What the URLs of archives begin with. Below it a mirror has the paths of GitHub, as for GPUStack's own option
        C(--tools-download-base-url).
    type: str
    default: https://github.com
  folder:
    description:
      - A folder on the controller with the archives, each at C(VERSION/ARCHIVE) or at the path that it has at GitHub. With
        it, nothing is downloaded; O(base_url) still is what the URLs in the lock begin with.
    type: path
  archives_folder:
    description:
      - A folder on the controller where archives are kept as C(VERSION/ARCHIVE), to be copied to nodes from there. Archives
        that are there already are not downloaded.
      - In check mode nothing is written there.
    type: path
  url_username:
    description:
      - User for the server of O(base_url). It is not sent to servers that this one redirects to.
    type: str
  url_password:
    description:
      - Password of O(url_username).
    type: str
  url_token:
    description:
      - Bearer token for the server of O(base_url), in place of a user.
    type: str
  ca_path:
    description:
      - A file with the certificates, in PEM, to trust instead of the system's.
    type: path
  use_proxy:
    description:
      - Whether the proxy of the environment (C(https_proxy), C(no_proxy)) is used.
    type: bool
    default: true
  timeout_seconds:
    description:
      - How long a server may be silent, in seconds.
    type: int
    default: 30
  deadline_seconds:
    description:
      - How long one archive may take in all, in seconds.
    type: int
    default: 1800
  retries:
    description:
      - How many attempts in a row may bring nothing before it is an error. A download that was cut goes on where it was.
    type: int
    default: 4
extends_documentation_fragment:
  - metalfleet.gpustack.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
  platform:
    support: full
    platforms: macos, linux
notes:
  - The digests are those of what the server gave, so make the lock where you trust the way to it, look at the difference
    before you commit it, and keep the file in version control.
seealso:
  - name: Releases of llama-box
    description: Where the archives come from.
    link: https://github.com/gpustack/llama-box/releases
"""

EXAMPLES = r"""
- name: Find two releases for Macs and for Linux without a GPU
  metalfleet.gpustack.llama_box_release_info:
    versions: [v0.0.139, v0.0.171]
    platforms: [darwin-arm64-metal, linux-amd64-avx2]
  delegate_to: localhost
  register: found

- name: Add a release from a mirror of our own, and keep the archives to copy them to nodes
  metalfleet.gpustack.llama_box_release_info:
    versions: [v0.0.171]
    platforms: [darwin-arm64-metal]
    known: "{{ lookup('metalfleet.gpustack.lock_file', 'llama_box.lock.yml') }}"
    base_url: https://mirror.example.com/github
    url_token: "{{ vault_mirror_token }}"
    archives_folder: "{{ inventory_dir }}/archives"
  delegate_to: localhost
  register: found
"""

RETURN = r"""
lock:
  description: The whole content of the lock, what was known included, in the order of versions.
  returned: success
  type: dict
  contains:
    format:
      description: The format of the lock.
      type: int
      sample: 1
    releases:
      description: Version, then build, then C(url), C(sha256), C(size_bytes) and C(files), which has the digest of each file.
      type: dict
      sample:
        v0.0.139:
          darwin-arm64-metal:
            url: https://github.com/gpustack/llama-box/releases/download/v0.0.139/llama-box-darwin-arm64-metal.zip
            sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
            size_bytes: 15728640
            files:
              llama-box: 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752
added:
  description: What is new in the lock.
  returned: success
  type: list
  elements: dict
  contains:
    version:
      description: The version.
      type: str
      sample: v0.0.139
    build:
      description: The build.
      type: str
      sample: darwin-arm64-metal
kept:
  description: Paths of the archives that were added to O(archives_folder), or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: [/srv/fleet/archives/v0.0.139/llama-box-darwin-arm64-metal.zip]
"""

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._module import Module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.download import DownloadOptions
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.release_lock import Archives, make_lock
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import urls
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, GpustackError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.release_lock_request import wanted
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import GITHUB, Lock, parse_lock

ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "versions": {"type": "list", "elements": "str", "required": True},
    "platforms": {"type": "list", "elements": "str", "default": []},
    "builds": {"type": "list", "elements": "str", "default": []},
    "known": {"type": "dict", "default": {}},
    "lock_file": {"type": "str", "default": "lock"},
    "verify": {"type": "bool", "default": False},
    "base_url": {"type": "str", "default": GITHUB},
    "folder": {"type": "path"},
    "archives_folder": {"type": "path"},
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
    "url_token": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "use_proxy": {"type": "bool", "default": True},
    "timeout_seconds": {"type": "int", "default": 30},
    "deadline_seconds": {"type": "int", "default": 1800},
    "retries": {"type": "int", "default": 4},
}


def main() -> None:
    module = Module(
        argument_spec=ARGUMENT_SPEC,
        supports_check_mode=True,
        mutually_exclusive=[("url_username", "url_token")],
        required_by={"url_password": "url_username"},
    )
    try:
        result, warnings = run(module.params, Host(), module.check_mode, module.tmpdir)
    except GpustackError as exc:
        module.fail_json(msg=str(exc))
    for warning in warnings:
        module.warn(warning)
    module.exit_json(**result)


def run(params: t.Mapping[str, t.Any], host: Host, check_mode: bool, work_folder: str) -> tuple[dict[str, t.Any], tuple[str, ...]]:
    """Carry out the module on the controller; returns its result and its warnings."""
    for name, least in (("timeout_seconds", 1), ("deadline_seconds", 1), ("retries", 0)):
        if params[name] < least:
            raise BadInputError(f"{name}: {params[name]} is too small; the least is {least}")
    for name in ("folder", "archives_folder", "ca_path"):
        if params[name] is not None and not params[name].startswith("/"):
            raise BadInputError(f"{name}: {params[name]} is relative; write it from / on")
    archives = Archives(
        base_url=urls.base_url(params["base_url"], "base_url"),
        work_folder=work_folder,
        folder=params["folder"],
        kept_folder=params["archives_folder"],
        options=DownloadOptions(
            username=params["url_username"],
            password=params["url_password"],
            token=params["url_token"],
            ca_path=params["ca_path"],
            use_proxy=params["use_proxy"],
            timeout_seconds=params["timeout_seconds"],
            deadline_seconds=params["deadline_seconds"],
            retries=params["retries"],
        ),
        dry_run=check_mode,
        verify=params["verify"],
    )
    known = parse_lock(params["known"], params["lock_file"]) if params["known"] else Lock()
    made = make_lock(host, known, wanted(params["versions"], params["platforms"], params["builds"]), archives)
    result = {
        "changed": bool(made.kept),
        "lock": made.lock.as_data(),
        "added": [{"version": release.version, "build": release.build} for release in made.added],
        "kept": list(made.kept),
    }
    return result, made.warnings


if __name__ == "__main__":
    main()

# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import release_lock_request
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.release_lock_request import Wanted


def test_wants_each_version_for_each_platform_once():
    found = release_lock_request.wanted(
        ["v0.0.139", "v0.0.171", "v0.0.139"], ["darwin-arm64-metal", "linux-amd64-avx2", "darwin-arm64-metal"], ["linux-amd64-hip-6.2"]
    )
    assert found == (
        Wanted("v0.0.139", "darwin-arm64-metal", ("darwin-arm64-metal",)),
        Wanted("v0.0.139", "linux-amd64-avx2", ("linux-amd64-avx2",)),
        Wanted("v0.0.139", "linux-amd64-hip-6.2", ("linux-amd64-hip-6.2",)),
        Wanted("v0.0.171", "darwin-arm64-metal", ("darwin-arm64-metal", "dl-darwin-arm64-metal")),
        Wanted("v0.0.171", "linux-amd64-avx2", ("linux-amd64-avx2", "dl-linux-amd64-cpu")),
        Wanted("v0.0.171", "linux-amd64-hip-6.2", ("linux-amd64-hip-6.2",)),
    )


def test_builds_of_their_own_names_will_do():
    found = release_lock_request.wanted(["v0.0.171"], [], ["dl-darwin-arm64-metal"])
    assert found == (Wanted("v0.0.171", "dl-darwin-arm64-metal", ("dl-darwin-arm64-metal",)),)


@pytest.mark.parametrize(
    ("versions", "platforms", "builds", "message"),
    [
        ([], ["darwin-arm64-metal"], [], "versions: none is named; name at least one, such as v0.0.139"),
        (["v0.0.139"], [], [], "platforms: none is named; name at least one, such as darwin-arm64-metal"),
        (["latest"], ["darwin-arm64-metal"], [], "versions: 'latest' is not a version; write it like v0.0.139"),
        (["v0.0.139"], [], ["metal"], "builds: 'metal' is not a build; write it like dl-darwin-arm64-metal"),
        (
            ["v0.0.139"],
            ["metal"],
            [],
            "platforms: 'metal' is not a platform; write it like darwin-arm64-metal or linux-amd64-cuda-12.4",
        ),
    ],
)
def test_refuses_what_cannot_be_wanted(versions, platforms, builds, message):
    with pytest.raises(BadInputError) as caught:
        release_lock_request.wanted(versions, platforms, builds)
    assert str(caught.value) == message


def test_says_who_lacks_a_build():
    assert release_lock_request.consequence("dl-darwin-arm64-metal") == "GPUStack 0.7"
    assert release_lock_request.consequence("darwin-arm64-metal") == "GPUStack 0.6, and 0.7 with GPUSTACK_DISABLE_DYNAMIC_LINK_LLAMA_BOX,"

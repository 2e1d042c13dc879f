#!/bin/sh
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# in_copy.sh COMMAND...: run it in a copy of the collection that lives as long as the command.
# Tools that look at a whole collection must not see .cache, and some write beside what they look at.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
run=$(mktemp -d "$root/.cache/run.XXXXXX")
trap 'rm -rf "$run"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

python3 "$root/tests/tools/copy_collection.py" "$run/ansible_collections/metalfleet/gpustack"
cd "$run/ansible_collections/metalfleet/gpustack"
# Without a repository of its own, ansible-test and ansible-lint would find the checkout's, which ignores .cache.
git -c init.defaultBranch=main init --quiet --template=
ANSIBLE_COLLECTIONS_PATH=$run "$@"

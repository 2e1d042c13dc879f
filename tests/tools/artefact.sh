#!/bin/sh
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Builds the archive that Galaxy would get, installs it where nothing else is, and reads every document from there.
# Called by in_copy.sh, in the copy.
set -eu

source=$PWD
run=$source/../../..
export ANSIBLE_COLLECTIONS_PATH="$run/installed"

ansible-galaxy collection build --output-path "$run" .
archive=$(ls "$run"/metalfleet-gpustack-*.tar.gz)

echo "== the archive holds nothing but what is used at run time"
if tar tzf "$archive" | cut -d/ -f1 | sort -u |
    grep -vxE 'CHANGELOG\.rst|CONTRIBUTING\.md|FILES\.json|LICENSE|MANIFEST\.json|README\.md|SECURITY\.md|changelogs|docs|meta|playbooks|plugins|roles'; then
    echo "artefact: the names above are not to be shipped; add them to build_ignore in galaxy.yml" >&2
    exit 1
fi

ansible-galaxy collection install --offline --collections-path "$run/installed" "$archive"
cd "$run"

echo "== documents of the installed collection"
document() {
    name=metalfleet.gpustack.$(basename "$2" .py)
    echo "$1 $name"
    # For a name that it does not know, ansible-doc prints a warning and succeeds.
    ansible-doc --json --type "$1" "$name" | grep -q "\"$name\": {" || { echo "artefact: ansible-doc knows no $1 $name" >&2; exit 1; }
}
for path in "$source"/plugins/modules/*.py; do
    [ ! -e "$path" ] || document module "$path"
done
for kind in filter inventory lookup; do
    for path in "$source/plugins/$kind"/*.py; do
        [ ! -e "$path" ] || document "$kind" "$path"
    done
done
for path in "$source"/roles/*; do
    [ ! -d "$path" ] || document role "$path"
done
for path in "$source"/playbooks/*.yml; do
    [ -e "$path" ] || continue
    ansible-playbook --inventory localhost, --syntax-check "metalfleet.gpustack.$(basename "$path" .yml)"
done

echo "== defaults for the action group"
ansible-playbook --inventory localhost, --connection local "$source/tests/tools/action_group.yml"

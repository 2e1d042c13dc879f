#!/bin/sh
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Run one Molecule scenario in a session of disposable hosts of its own: molecule.sh SCENARIO [MOLECULE-COMMAND]
set -eu
scenario=$1
command=${2:-test}
cd "$(dirname "$0")/../.."
HOSTS_SESSION=molecule-$(echo "$scenario" | tr _ -)-$$
export HOSTS_SESSION
# One ephemeral folder a run, so that two runs of a scenario do not share Molecule's state.
MOLECULE_EPHEMERAL_DIRECTORY=$PWD/.cache/molecule/$HOSTS_SESSION
ANSIBLE_COLLECTIONS_PATH=$PWD/.cache/collections
ANSIBLE_HOME=$PWD/.cache/ansible
PYTHONPATH=$PWD/tests/testinfra${PYTHONPATH:+:$PYTHONPATH}
# A socket's path must be short, so this is not below the checkout.
SSH_SOCKETS=$(mktemp -d)
export MOLECULE_EPHEMERAL_DIRECTORY ANSIBLE_COLLECTIONS_PATH ANSIBLE_HOME PYTHONPATH SSH_SOCKETS
trap 'tests/hosts/hosts stop "$HOSTS_SESSION"; rm -rf "$MOLECULE_EPHEMERAL_DIRECTORY" "$SSH_SOCKETS"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# Before the session, from whose inside no package index can be reached. create.yml finds them made.
python3 -c 'import sys, yaml; print(*{layer for one in yaml.safe_load(open(sys.argv[1]))["platforms"] for layer in one.get("layers", [])}, sep="\n")' \
    "molecule/$scenario/molecule.yml" | while read -r layer; do
    # shellcheck disable=SC2086  # a version and a kind of host
    [ -z "$layer" ] || python3 tests/gpustack/package.py $layer >/dev/null || exit 1
done
tests/hosts/hosts start "$HOSTS_SESSION" --owner-pid $$
tests/hosts/hosts run "$HOSTS_SESSION" -- molecule "$command" -s "$scenario"

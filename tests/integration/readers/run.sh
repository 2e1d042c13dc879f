#!/bin/sh
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Run the tests of this folder against a disposable Linux host with real systemd.
set -eu
cd "$(dirname "$0")/../../.."
session=readers-$$
trap 'tests/hosts/hosts stop "$session"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
tests/hosts/hosts start "$session" --owner-pid $$
tests/hosts/hosts up "$session" reader=linux
READERS_HOST_COMMAND="tests/hosts/hosts ssh $session reader --" PYTHONPATH=.cache/collections pytest -q tests/integration/readers

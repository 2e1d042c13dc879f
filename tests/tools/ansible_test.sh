#!/bin/sh
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ansible_test.sh ARGUMENTS: ansible-test in a copy of the collection.
# Its home is .cache/home, where it keeps the environments it builds; the user's own is not touched.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
cache=$root/.cache
home=$cache/home
mkdir -p "$home/.ansible/test/cache" "$home/.config"

# ansible-test drops PIP_* variables, so pip must find the user's configuration (an index, a certificate) in the new home.
[ ! -d "$HOME/.config/pip" ] || ln -sfn "$HOME/.config/pip" "$home/.config/pip"
[ ! -d "$HOME/.pip" ] || ln -sfn "$HOME/.pip" "$home/.pip"

# The file is named after the pip that this release of ansible-test wants in its environments.
python3 - <<'PYTHON' | while read -r version; do
import inspect
import re

from ansible_test._internal import python_requirements

source = inspect.getsource(python_requirements.get_venv_packages)
print("\n".join(sorted(set(re.findall(r"""pip=['"]([\d.]+)""", source)))))
PYTHON
    cp "$root/tests/tools/offline_get_pip.py" "$home/.ansible/test/cache/get_pip_$(echo "$version" | tr . _).py"
done

HOME=$home exec "$root/tests/tools/in_copy.sh" ansible-test "$@"

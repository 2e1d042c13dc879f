# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ansible-test runs as get-pip in the environments it builds, instead of a script from its own download host.

Called with: --disable-pip-version-check pip==VERSION [--no-setuptools] [--no-wheel]. The interpreter's own pip fetches the
wanted one from the package index, the only source of Python packages that the tests need.
"""

from __future__ import annotations

import subprocess
import sys

packages = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
subprocess.run([sys.executable, "-m", "ensurepip", "--upgrade"], check=True, stdout=subprocess.DEVNULL)
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], check=True)

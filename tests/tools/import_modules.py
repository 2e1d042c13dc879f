# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Import all code that runs on nodes: import_modules.py COLLECTIONS_FOLDER ANSIBLE_FOLDER.

Run by the oldest Python of nodes, so it keeps to what that one knows.
"""

from __future__ import annotations

import importlib
import pathlib
import sys

COLLECTION = "ansible_collections/metalfleet/gpustack"


def main() -> None:
    collections, ansible = sys.argv[1:3]
    sys.path[:0] = [collections, ansible]
    plugins = pathlib.Path(collections, COLLECTION, "plugins")
    paths = sorted([*plugins.glob("module_utils/**/*.py"), *plugins.glob("modules/*.py")])
    for path in paths:
        importlib.import_module(".".join(path.relative_to(collections).with_suffix("").parts))
    print("{} modules of code for nodes imported by Python {}.{}.{}".format(len(paths), *sys.version_info[:3]))


if __name__ == "__main__":
    main()

# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Answers that come as one JSON: whether they hold what was asked for."""

from __future__ import annotations

import json
import math
import typing as t


def embedding_problem(answer: bytes) -> t.Optional[str]:
    """What is wrong with an answer of /embeddings to one text. Empty: nothing. None: it is no such answer."""
    items = _items(answer, "data")
    if items is None:
        return None
    if not items:
        return "the answer holds no vector"
    vector = items[0].get("embedding") if isinstance(items[0], dict) else None
    if not isinstance(vector, list) or not vector:
        return "the vector is empty"
    # llama.cpp writes null for what is not a number.
    if not all(map(_finite, vector)):
        return "the vector holds what is no finite number"
    return "" if any(vector) else "the vector holds only zeros"


def rerank_problem(answer: bytes, documents: int) -> t.Optional[str]:
    """What is wrong with an answer of /rerank for that many documents. Empty: nothing. None: it is no such answer."""
    items = _items(answer, "results")
    if items is None:
        return None
    results = [item for item in items if isinstance(item, dict) and _whole(item.get("index"))]
    if sorted(result["index"] for result in results) != list(range(documents)):
        return f"the answer does not hold one result for each of {documents} documents"
    if not all(_finite(result.get("relevance_score")) for result in results):
        return "the answer holds a relevance that is no finite number"
    return ""


def _items(answer: bytes, key: str) -> t.Optional[t.List[t.Any]]:
    try:
        data = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    items = data.get(key) if isinstance(data, dict) else None
    return items if isinstance(items, list) else None


def _finite(value: t.Any) -> bool:
    # An int may be too large for isfinite().
    return math.isfinite(value) if isinstance(value, float) else _whole(value)


def _whole(value: t.Any) -> bool:
    # A bool is an int to Python.
    return isinstance(value, int) and not isinstance(value, bool)

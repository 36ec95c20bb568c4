"""Runs in every process of the test: Ultralytics cannot be imported; what a study asks of it, the stand-in answers."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

SERVICE = "detgraft.upstream.service."


class Finder:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.split(".")[0] == "ultralytics":
            raise ImportError(f"{name} is blocked by this test")
        if name.startswith(SERVICE):
            return importlib.util.spec_from_file_location(name, Path(__file__).with_name("service.py"))
        return None


sys.meta_path.insert(0, Finder())

"""The model bundle: manifest, store, integrity."""

from __future__ import annotations

from emert_edge.bundle.bundle import Bundle, require_place, write_bundle
from emert_edge.bundle.manifest import Manifest
from emert_edge.bundle.store import installed_bundles, open_bundle, packaged_dir, store_dir

__all__ = [
    "Bundle",
    "Manifest",
    "installed_bundles",
    "open_bundle",
    "packaged_dir",
    "require_place",
    "store_dir",
    "write_bundle",
]

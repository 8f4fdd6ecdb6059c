"""Where bundles lie: a path, the user's store, the wheel."""

from __future__ import annotations

import os
from pathlib import Path

from emert_edge.bundle.bundle import MANIFEST, Bundle
from emert_edge.errors import BundleNotFound

__all__ = ["PACKAGED_BUNDLE", "installed_bundles", "open_bundle", "packaged_dir", "store_dir"]

PACKAGED_BUNDLE = "emert-demo"


def store_dir() -> Path:
    """Return the user's store: `$EMERT_EDGE_HOME`, else `$XDG_DATA_HOME/emert-edge`, else `~/.local/share/emert-edge`.

    Bundles lie in its folder `bundles`, detector models in `models`. The folder need not exist.
    """
    if home := os.environ.get("EMERT_EDGE_HOME"):
        return Path(home)
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "emert-edge"


def packaged_dir() -> Path:
    """Return the folder of the bundles that ship with the package."""
    return Path(__file__).resolve().parent.parent / "bundles"


def _places() -> tuple[tuple[str, Path], ...]:
    return (("store", store_dir() / "bundles"), ("packaged", packaged_dir()))


def _named(folder: Path, name: str) -> Path | None:
    for candidate in (folder / name, folder / f"{name}.emert"):
        if (candidate / MANIFEST).is_file() or candidate.is_file():
            return candidate
    return None


def installed_bundles() -> list[tuple[str, Path]]:
    """List the bundles that go by a name, as pairs of place ("store" or "packaged") and path, sorted by name."""
    found = []
    for place, folder in _places():
        if folder.is_dir():
            found += [
                (place, path)
                for path in sorted(folder.iterdir())
                if (path / MANIFEST).is_file() or (path.suffix == ".emert" and path.is_file())
            ]
    return found


def open_bundle(bundle: str | Path | Bundle | None = None) -> Bundle:
    """Open a bundle by path, by name in the user's store, or by the name of a packaged one, in this order.

    Parameters
    ----------
    bundle
        A folder, an `.emert` file, a name, an open `Bundle` (returned as it is), or None for the packaged bundle.

    Raises
    ------
    BundleNotFound
        Nothing lies there.
    BundleCorrupt, BundleIncompatible
        What lies there cannot be used.
    """
    if isinstance(bundle, Bundle):
        return bundle
    if bundle is None:
        return Bundle.open(packaged_dir() / PACKAGED_BUNDLE)
    if not isinstance(bundle, str | Path):
        raise TypeError(f"bundle must be a name, a path or a Bundle, not {type(bundle).__name__}")
    if not str(bundle):
        raise BundleNotFound("the bundle's name is empty; leave it out for the packaged one")
    path = Path(bundle)
    name = str(bundle)
    bare = path.name == name  # no folder in it: it may be a name
    if path.is_file() or (path / MANIFEST).is_file() or (path.is_dir() and not bare):
        return Bundle.open(path)
    if bare:
        for _, folder in _places():
            if found := _named(folder, name):
                return Bundle.open(found)
    names = ", ".join(sorted({path.stem if path.suffix == ".emert" else path.name for _, path in installed_bundles()}))
    raise BundleNotFound(
        f"no bundle {name!r}: neither a path nor a name in {store_dir() / 'bundles'}; installed: {names or 'none'}"
    )

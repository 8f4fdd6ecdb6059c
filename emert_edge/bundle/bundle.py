"""An open bundle: a folder, or one `.emert` file (a zip archive without compression)."""

from __future__ import annotations

import hashlib
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from emert_edge.bundle.manifest import (
    FileEntry,
    Graph,
    Manifest,
    Precision,
    Role,
    Target,
    member_path_fault,
    parse_manifest,
    seal_manifest,
)
from emert_edge.errors import BundleCorrupt, BundleIncompatible, BundleNotFound

__all__ = ["MANIFEST", "Bundle", "require_place", "write_bundle", "write_folder"]

MANIFEST = "manifest.json"

_ZIP_FAULTS = (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, struct.error, zlib.error)
"""What `zipfile` raises, in one version or another, for archives that are damaged."""


class Bundle:
    """A model bundle whose manifest has been read and checked; its files are checked when they are read.

    Attributes
    ----------
    path : pathlib.Path
        The folder or the `.emert` file.
    manifest : Manifest
        What the bundle says of itself.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Open a bundle and check its manifest.

        Raises
        ------
        BundleNotFound
            Nothing lies at the path, or no manifest does.
        BundleCorrupt, BundleIncompatible
            The manifest is broken, or of an unknown version.
        """
        path = Path(path)
        return cls(path, parse_manifest(_read_member(path, MANIFEST), str(path)))

    def read(self, name: str) -> bytes:
        """Return one file's bytes after checking size and sha256.

        Raises
        ------
        BundleCorrupt
            The file is missing, or not what the manifest says.
        """
        entry = self.manifest.files[name]
        data = _read_member(self.path, name)
        if len(data) != entry.size:
            raise BundleCorrupt(f"{self.path}: {name} has {len(data)} bytes, the manifest says {entry.size}")
        digest = hashlib.sha256(data).hexdigest()
        if digest != entry.sha256:
            raise BundleCorrupt(
                f"{self.path}: {name} has sha256 {digest[:12]}…, the manifest says {entry.sha256[:12]}…: "
                "the file was changed or damaged; get the bundle anew"
            )
        return data

    def verify(self) -> None:
        """Check every file against the manifest.

        Raises
        ------
        BundleCorrupt
            For the first file that is missing or differs.
        """
        for name in self.manifest.files:
            self.read(name)

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.manifest.name

    @property
    def card(self) -> str:
        """The bundle's card: what it is, what it was trained on, what it must not be used for."""
        return self.read(self.manifest.card).decode("utf-8")

    def precisions(self, target: Target) -> tuple[Precision, ...]:
        """Return the precisions in which every role has a graph for a target, best-known first."""
        order: tuple[Precision, ...] = ("fp32", "fp16", "int8")
        return tuple(precision for precision in order if self._has(precision, target))

    def _has(self, precision: Precision, target: Target) -> bool:
        graphs = self.manifest.graphs
        roles = {graph.role for graph in graphs}
        named = {graph.role for graph in graphs if graph.precision == precision and graph.target in ("any", target)}
        if precision == "int8":  # the face encoder alone is quantised by necessity; the rest may stay float
            return "face_encoder" in named
        return roles <= named

    def graph(self, role: Role, precision: Precision, target: Target) -> Graph:
        """Return the graph of a role; roles that an INT8 set leaves in float are taken from FP32.

        Raises
        ------
        BundleIncompatible
            The bundle has no such graph.
        """
        wanted = [precision, "fp32"] if precision == "int8" else [precision]
        for choice in wanted:
            candidates = [
                graph
                for graph in self.manifest.graphs
                if graph.role == role and graph.precision == choice and graph.target in ("any", target)
            ]
            if candidates:
                return max(candidates, key=lambda graph: graph.target == target)
        raise BundleIncompatible(
            f"{self.path}: no {precision} graph of the {role} for {target}; "
            f"this bundle has {', '.join(self.precisions(target)) or 'none'} for {target}"
        )

    def has_role(self, role: Role) -> bool:
        """Say whether any graph has this role."""
        return any(graph.role == role for graph in self.manifest.graphs)

    def __repr__(self) -> str:
        return f"Bundle({self.manifest.identity!r}, path={str(self.path)!r})"


def _read_member(bundle: Path, name: str) -> bytes:
    try:
        if bundle.is_dir():
            return _read_from_folder(bundle, name)
        return _read_from_archive(bundle, name)
    except PermissionError as error:
        raise BundleNotFound(f"{bundle}: no permission to read {name} ({error.strerror})") from error


def _read_from_folder(folder: Path, name: str) -> bytes:
    file = folder / name
    if not file.is_file():
        if name == MANIFEST:
            raise BundleNotFound(f"{folder}: this folder holds no {MANIFEST}, so it is not a bundle")
        raise BundleCorrupt(f"{folder}: {name} is missing, though the manifest lists it")
    if not file.resolve().is_relative_to(folder.resolve()):
        raise BundleCorrupt(f"{folder}: {name} is a link that leaves the bundle; do not use this bundle")
    return file.read_bytes()


def _read_from_archive(file: Path, name: str) -> bytes:
    if not file.is_file():
        raise BundleNotFound(f"{file}: there is no such file or folder")
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                if fault := member_path_fault(member):
                    raise BundleCorrupt(f"{file}: the archive holds {member!r}, which {fault}; do not use this bundle")
            return archive.read(name)
    except KeyError as error:
        raise BundleCorrupt(f"{file}: {name} is missing from the archive") from error
    except PermissionError:
        raise
    except _ZIP_FAULTS as error:
        raise BundleCorrupt(f"{file}: not a sound .emert archive ({error}); get the bundle anew") from error


def write_bundle(out: str | Path, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle whole or not at all, and open it.

    Parameters
    ----------
    out
        A folder, or a file whose name ends in `.emert`. What lies there is replaced when it is a bundle.
    manifest
        The manifest; its `files` are filled in from `files`.
    files
        Content by relative path; must hold every graph and the card.

    Raises
    ------
    ValueError
        A path leaves the bundle, or a graph's file is not among `files`.
    FileExistsError
        Something that is not a bundle lies at `out`.
    """
    out = Path(out)
    for name in files:
        if fault := member_path_fault(name):
            raise ValueError(f"files: {name!r} {fault}")
    entries = {name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), size=len(data)) for name, data in files.items()}
    content = manifest.model_dump(exclude={"manifest_sha256"})
    content["files"] = {name: entry.model_dump() for name, entry in entries.items()}
    sealed = seal_manifest(Manifest.model_validate(content))
    require_place(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    members = {MANIFEST: sealed, **files}
    if out.suffix == ".emert":
        _write_archive(out, members)
    else:
        write_folder(out, members)
    return Bundle.open(out)


def require_place(out: str | Path) -> None:
    """Check that a bundle may be written there: for whoever works long before it is.

    Raises
    ------
    FileExistsError
        Something that is not a bundle lies at `out`.
    """
    if Path(out).exists() and not _is_bundle(Path(out)):
        raise FileExistsError(f"{out} exists and is not a bundle; it is not overwritten")


def _is_bundle(path: Path) -> bool:
    return (path / MANIFEST).is_file() or (path.is_file() and path.suffix == ".emert")


def _write_archive(out: Path, members: Mapping[str, bytes]) -> None:
    with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", delete=False) as handle:
        aside = Path(handle.name)
    try:
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
            for name, data in _sorted(members):
                # a fixed date: the same content gives the same bytes
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
        aside.chmod(0o644)
        aside.replace(out)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_folder(out: Path, members: Mapping[str, bytes]) -> None:
    """Write files by relative path into a folder, aside first: what lies at `out` is replaced whole or stays."""
    aside = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        for name, data in _sorted(members):
            file = aside / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        aside.chmod(0o755)
        if out.exists():
            old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.old."))
            out.rename(old / out.name)
            aside.rename(out)
            shutil.rmtree(old)
        else:
            aside.rename(out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _sorted(members: Mapping[str, bytes]) -> Iterable[tuple[str, bytes]]:
    return sorted(members.items())

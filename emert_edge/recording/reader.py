"""Reading a recording: message by message, up to the last whole chunk of a file that was cut off."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from emert_edge.errors import SourceError
from emert_edge.recording.messages import FORMAT, METADATA, SCHEMAS, Damaged, decoded

__all__ = ["Recording", "is_mcap"]

_LOG = logging.getLogger("emert_edge")

_MAGIC = b"\x89MCAP0\r\n"
_CHUNK, _METADATA, _DATA_END, _FOOTER = 0x06, 0x0C, 0x0F, 0x02
_HEADER = struct.Struct("<BQ")
_LARGEST = 1 << 30


def is_mcap(start: bytes) -> bool:
    """Whether a file that begins so is an MCAP file."""
    return start.startswith(_MAGIC)


class Recording:
    """A session's recording.

    Parameters
    ----------
    path : path
        The file.

    Attributes
    ----------
    facts : dict of str to str
        What the file says of the session: `bundle`, `clock`, `stride_ns`, `frames` and so on.
    truncated : bool
        Whether the file was found to be cut off; known once `messages` has come to the end.

    Raises
    ------
    SourceError
        If it cannot be read, is no MCAP file, or one of something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            import mcap.records
        except ImportError:
            raise SourceError(f"{path}: MCAP is read with mcap; pip install 'emert-edge[recordings]'") from None
        self._records = mcap.records
        self.truncated = False
        self.facts = self._read_facts()
        if self.facts.get("format") != FORMAT:
            raise SourceError(
                f"{path}: a recording of format {self.facts.get('format')!r}, which this version does not read "
                f"(it reads {FORMAT!r}): update emert_edge"
            )

    @property
    def frames_kept(self) -> bool:
        """Whether pictures were kept."""
        return self.facts.get("frames") == "kept"

    def messages(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield topic and message, in the order in which the session took them.

        Raises
        ------
        SourceError
            If the file is damaged: with the byte where.
        """
        from mcap.exceptions import McapError
        from mcap.stream_reader import breakup_chunk

        topics: dict[int, str] = {}
        for at, kind, content in self._file_records():
            if kind != _CHUNK:
                continue
            try:
                chunk = self._records.Chunk.read(_stream(content))
                if chunk.uncompressed_size > _LARGEST:
                    raise Damaged(f"a chunk of {chunk.uncompressed_size} bytes")
                inner = breakup_chunk(chunk, validate_crc=True)
                for record in inner:
                    if isinstance(record, self._records.Channel):
                        topics[record.id] = record.topic
                    elif isinstance(record, self._records.Message):
                        topic = topics.get(record.channel_id)
                        if topic is None:
                            raise Damaged(f"a message of a channel that nobody announced ({record.channel_id})")
                        if topic in SCHEMAS:
                            yield topic, decoded(record.data)
            except SourceError:
                raise
            except (McapError, Damaged, struct.error, ValueError, EOFError, KeyError, MemoryError) as error:
                raise self._damaged(at, error) from None
            except Exception as error:
                if type(error).__module__.partition(".")[0] not in ("zstandard", "lz4", "mcap"):
                    raise
                raise self._damaged(at, error) from None
        if self.truncated:
            _LOG.warning("%s was cut off: it is replayed up to its last whole chunk", self.path)

    def _damaged(self, at: int, error: BaseException) -> SourceError:
        told = " ".join(str(error).split()) or type(error).__name__
        return SourceError(f"{self.path}, byte {at}: the recording is damaged there: {told[:200]}")

    def _read_facts(self) -> dict[str, str]:
        for at, kind, content in self._file_records():
            if kind == _METADATA:
                try:
                    metadata = self._records.Metadata.read(_stream(content))
                except Exception as error:  # whatever bytes make of mcap's parsing
                    raise self._damaged(at, error) from None
                if metadata.name == METADATA:
                    return dict(metadata.metadata)
            elif kind == _CHUNK:
                break
        raise SourceError(f"{self.path}: an MCAP file, but no session that emert_edge recorded")

    def _file_records(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield place, kind and content of each record up to the end of the data, or to where the file breaks off."""
        try:
            with self.path.open("rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    raise SourceError(f"{self.path}: this is no MCAP file")
                yield from self._records_of(file)
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read: {error.strerror or error}") from error

    def _records_of(self, file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
        while True:
            at = file.tell()
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size:
                self._cut_off(file, at)
                return
            kind, length = _HEADER.unpack(head)
            if not (0x01 <= kind <= 0x0F or kind >= 0x80) or length > _LARGEST:
                raise SourceError(f"{self.path}, byte {at}: no record begins here; the recording is damaged")
            if kind in (_DATA_END, _FOOTER):
                return
            content = file.read(length)
            if len(content) < length:
                self._cut_off(file, at)
                return
            yield at, kind, content

    def _cut_off(self, file: BinaryIO, at: int) -> None:
        """A file that breaks off within a record; one that was finished ends with the magic bytes."""
        if file.seek(0, 2) - at >= len(_MAGIC):
            file.seek(-len(_MAGIC), 2)
            if file.read() == _MAGIC:
                raise SourceError(f"{self.path}, byte {at}: the recording is damaged there: it was finished, and this "
                                  "record would reach beyond its end")  # fmt: skip
        self.truncated = True


def _stream(content: bytes) -> Any:
    from io import BytesIO

    from mcap.data_stream import ReadDataStream

    return ReadDataStream(BytesIO(content))

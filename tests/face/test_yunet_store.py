"""YuNet comes into the store whole and verified, from where the caller says, or not at all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import emert_edge.face.yunet as yunet_module
from emert_edge.errors import EngineError
from emert_edge.face import fetch_yunet, stored_yunet

MODEL = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(MODEL).hexdigest()


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path in ("/model.onnx", "/cut.onnx")
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(MODEL)) if found else "0")
            self.end_headers()
            if found:
                self.wfile.write(MODEL if self.path == "/model.onnx" else MODEL[:1000])

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_model_is_fetched_from_the_address_given(server: str, tmp_path: Path) -> None:
    path = fetch_yunet(f"{server}/model.onnx", store=tmp_path / "new", sha256=SHA256)
    assert path.read_bytes() == MODEL
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_model_is_copied_from_a_file_into_the_users_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMERT_EDGE_HOME", str(tmp_path / "home"))
    assert stored_yunet() is None
    (tmp_path / "given.onnx").write_bytes(MODEL)
    path = fetch_yunet(tmp_path / "given.onnx", sha256=SHA256.upper())
    assert path == stored_yunet()
    assert path.read_bytes() == MODEL


def test_what_is_there_already_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "given.onnx").write_bytes(MODEL)
    path = fetch_yunet(tmp_path / "given.onnx", store=tmp_path / "store", sha256=SHA256)
    assert fetch_yunet("http://127.0.0.1:1/nobody", store=tmp_path / "store", sha256=SHA256) == path


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("/other.onnx", "404|Not Found"),
        ("/cut.onnx", "sha256|cannot be fetched"),
        ("http://127.0.0.1:1/model.onnx", "cannot be fetched"),
        ("ftp://127.0.0.1/model.onnx", "only http"),
        ("file:///etc/hostname", "only http"),
        ("missing.onnx", "no file at"),
    ],
)
def test_a_failure_leaves_what_was_there(server: str, tmp_path: Path, address: str, why: str) -> None:
    (tmp_path / yunet_module.YUNET_FILE).write_bytes(b"an older one")
    with pytest.raises(EngineError, match=why):
        fetch_yunet(server + address if address.startswith("/") else address, store=tmp_path, sha256=SHA256)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [
        (yunet_module.YUNET_FILE, b"an older one")
    ]


def test_a_wrong_file_is_refused_by_the_published_hash(server: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is not face_detection_yunet"):
        fetch_yunet(f"{server}/model.onnx", store=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_endless_answer_is_cut(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yunet_module, "LARGEST_MODEL_BYTES", 100_000)
    with pytest.raises(EngineError, match="larger than"):
        fetch_yunet(f"{server}/model.onnx", store=tmp_path, sha256=SHA256)
    assert list(tmp_path.iterdir()) == []

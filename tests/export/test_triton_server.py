"""A real Triton server, where one is installed, serves the repository: what it answers is what the graphs answer."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SERVER = shutil.which("tritonserver")
if SERVER is None:
    pytest.skip("no `tritonserver` on the path: it comes with NVIDIA's containers", allow_module_level=True)
pytest.importorskip("grpc", reason="Triton's client needs grpcio")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the client's own
    grpc_client = pytest.importorskip("tritonclient.grpc", reason="Triton's client is not installed (extra `test`)")

from emert_edge.export import export_triton  # noqa: E402
from emert_edge.export.parity import OpenGraph, drawn_inputs  # noqa: E402

from emert_edge.bundle import open_bundle  # noqa: E402


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a server that has loaded the packaged bundle's models."""
    folder = tmp_path_factory.mktemp("triton")
    made = export_triton(open_bundle(), folder / "models", precision="fp32")
    ports = {kind: free_port() for kind in ("http", "grpc")}
    options = [f"--{kind}-{part}" for kind, port in ports.items() for part in (f"port={port}", "address=127.0.0.1")]
    command = [str(SERVER), f"--model-repository={made.path}", "--allow-metrics=false", *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    client = grpc_client.InferenceServerClient(f"127.0.0.1:{ports['grpc']}")
    try:
        deadline = time.monotonic() + 120
        while not ready(client):
            told = (folder / "log").read_text(errors="replace")[-4000:]
            assert process.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.2)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(60)


def ready(client: Any) -> bool:
    try:
        return bool(client.is_server_ready())
    except grpc_client.InferenceServerException:
        return False


@pytest.mark.parametrize("role", ["face_encoder", "fixation_encoder", "head"])
def test_the_server_answers_as_the_graph(server: Any, role: Any) -> None:
    bundle = open_bundle()
    graph = OpenGraph(bundle.read(bundle.graph(role, "fp32", "cpu").file))
    for batch in (1, 5):
        given = drawn_inputs(graph.inputs, batch, np.random.default_rng(batch))
        inputs = [grpc_client.InferInput(name, values.shape, "FP32") for name, values in given.items()]
        for one, values in zip(inputs, given.values(), strict=True):
            one.set_data_from_numpy(values)
        answer = server.infer(f"emert-demo_{role}", inputs)
        for name, wanted in graph(given).items():
            assert np.abs(answer.as_numpy(name) - wanted).max() <= 1e-4 * max(1.0, np.abs(wanted).max()), name


def test_the_server_knows_the_labels(server: Any, tmp_path: Path) -> None:
    labels = open_bundle().manifest.labels.expression
    assert labels is not None
    face = open_bundle().manifest.face
    frame = grpc_client.InferInput("frame", (1, 3, *face.size), "FP32")
    frame.set_data_from_numpy(np.zeros((1, 3, *face.size), np.float32))
    wanted = grpc_client.InferRequestedOutput("expression_logits", class_count=len(labels))
    (rows,) = server.infer("emert-demo_face_encoder", [frame], outputs=[wanted]).as_numpy("expression_logits")
    assert {row.decode().split(":")[2] for row in rows} == set(labels)

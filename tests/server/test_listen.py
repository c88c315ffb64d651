"""The socket, and what systemd is told."""

import socket
from pathlib import Path

import pytest

from farthing.errors import UsageError
from farthing.server.listen import bind, url_of
from farthing.server.notify import notify


def test_port_zero_takes_a_free_one_and_clients_can_connect_before_anyone_accepts():
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}"
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass


def test_a_port_in_use_is_named_with_the_flag():
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 is in use.*--port"):
            bind("127.0.0.1", port)


def test_a_port_is_free_again_when_its_server_ended():
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            first.setblocking(True)
            first.accept()[0].close()  # leaves a connection in TIME_WAIT on our side
    bind("127.0.0.1", port).close()


def test_localhost_is_loopback():
    with bind("localhost", 0) as listener:
        assert listener.getsockname()[0] in ("127.0.0.1", "::1")


@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6_is_served(host: str):
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with bind(host, 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://{'[::1]' if host == '::1' else 'localhost'}:{port}"
        with socket.create_connection(("::1", port), timeout=5):
            pass


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 65536), ("127.0.0.1", -1), ("no such host", 0), ("192.0.2.1", 0), ("a" * 300, 0)]
)
def test_an_address_that_is_none_is_a_usage_error(host: str, port: int):
    with pytest.raises(UsageError, match=r"--port|--host"):
        bind(host, port)


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_is_told_what_it_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    name = str(tmp_path / "notify") if kind == "path" else f"@farthing-test-{tmp_path.name}-{id(tmp_path)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name[1:] if kind == "abstract" else name)
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify("READY=1", "STATUS=two\nlines")
        assert systemd.recv(4096) == b"READY=1\nSTATUS=two lines"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "@farthing-nobody-listens"])
def test_where_nobody_listens_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")

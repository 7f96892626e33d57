"""The ways out of a company's network: its authorities, its proxies, and how long anything takes."""

from __future__ import annotations

import base64
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import forward_proxy
import live
import pytest
import trustme
import truststore
from packaging.utils import NormalizedName

from pypiserver_lite import make_app
from pypiserver_lite.errors import ConfigError, Late, Unavailable
from pypiserver_lite.upstream.addresses import Forbidden, origin_of
from pypiserver_lite.upstream.client import FetchedPage, Upstream
from pypiserver_lite.upstream.ways import BUNDLES, STORES, find

FOO = NormalizedName("foo")
HOST = "upstream.example.test"
ANN = "ann:s3cr%26t-pass@"
SENT = "Basic " + base64.b64encode(b"ann:s3cr&t-pass").decode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """The file of an authority that nobody knows, and the context of a server whose certificate is by it."""
    path, key = live.certificate(tmp_path_factory.mktemp("authority"), HOST, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return path, context


@pytest.fixture
def secure(authority: tuple[Path, ssl.SSLContext]) -> Iterator[faulty.FaultyUpstream]:
    with faulty.upstream(tls=authority[1]) as server:
        server.add("foo", "foo-1.0.tar.gz", b"x" * 1000)
        yield server


@pytest.fixture
def plain() -> Iterator[faulty.FaultyUpstream]:
    with faulty.upstream() as server:
        server.add("foo", "foo-1.0.tar.gz", b"x" * 1000)
        yield server


@pytest.fixture
def proxy(secure: faulty.FaultyUpstream, plain: faulty.FaultyUpstream) -> Iterator[forward_proxy.ForwardProxy]:
    """The only one who knows where HOST is."""
    with forward_proxy.proxy({f"{HOST}:443": secure.port, f"{HOST}:80": plain.port}) as server:
        yield server


def client(url: str, authorities: Path | None = None, proxy: str | None = None, **options: float) -> Upstream:
    settings = {"connect": 2.0, "read": 2.0, "page": 4.0, "pause": 0.0} | options
    return Upstream(url, ways=find(authorities, proxy), **settings)  # type: ignore[arg-type]  # numbers


def test_an_authority_that_only_the_environment_names_is_trusted(
    secure: faulty.FaultyUpstream, authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match="--fallback-ca"):
        client(secure.url).page(FOO)
    for name in (*BUNDLES, "SSL_CERT_FILE"):
        with monkeypatch.context() as environment:
            environment.setenv(name, str(authority[0]))
            assert isinstance(client(secure.url).page(FOO), FetchedPage), name


def test_a_folder_of_authorities_is_taken_too(
    secure: faulty.FaultyUpstream,
    authority: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pem = authority[0].read_text()
    (tmp_path / "ca.pem").write_text(pem[pem.rindex("-----BEGIN") :])
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(tmp_path / "ca.pem")]
    hashed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    if not hashed:
        pytest.skip("openssl cannot tell how the file is to be called")
    (tmp_path / "ca.pem").rename(tmp_path / f"{hashed}.0")
    for name, value in (("SSL_CERT_DIR", f"{tmp_path}-none:{tmp_path}"), ("REQUESTS_CA_BUNDLE", str(tmp_path))):
        with monkeypatch.context() as environment:
            environment.setenv(name, value)
            assert isinstance(client(secure.url).page(FOO), FetchedPage), name


def test_a_named_authority_counts_instead_of_the_environments(
    secure: faulty.FaultyUpstream,
    authority: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(other))
    with pytest.raises(Unavailable):
        client(secure.url).page(FOO)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority[0]))
    assert isinstance(client(secure.url).page(FOO), FetchedPage)
    with pytest.raises(Unavailable):
        client(secure.url, other).page(FOO)


@pytest.mark.parametrize("name", [*BUNDLES, *STORES])
def test_a_variable_that_names_no_authorities_is_told_by_its_name(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """pip and uv go on with the system's store where it is one of OpenSSL's, and so do we."""
    (tmp_path / "empty.pem").write_text("")
    for value in (tmp_path / "none.pem", tmp_path / "empty.pem"):
        monkeypatch.setenv(name, str(value))
        if name in BUNDLES:
            with pytest.raises(ConfigError, match=name):
                find(None, None)
        else:
            assert isinstance(find(None, None).context(), truststore.SSLContext)
            assert f"{name} {value}: " in caplog.text
            with pytest.raises(ConfigError, match="--fallback-ca"):
                find(value, None)
    monkeypatch.setenv(name, "")
    find(None, None)


@pytest.mark.parametrize("missing", STORES)
def test_of_openssls_two_variables_one_that_leads_nowhere_is_left_out_with_a_line(
    missing: str,
    packages: Path,
    secure: faulty.FaultyUpstream,
    authority: tuple[Path, ssl.SSLContext],
    tmp_path: Path,
) -> None:
    nowhere = str(tmp_path / "none")
    named = {**dict.fromkeys(STORES, str(authority[0])), missing: nowhere}
    with live.serve(packages=[packages], env=named, fallback_url=secure.url, fallback_mode="proxy") as server:
        assert live.ask(server, "/simple/foo/").status == 200
        assert [line.count(missing) for line in server.log().splitlines() if nowhere in line] == [1]


def test_what_is_no_tls_is_told_from_a_certificate_that_is_not_trusted(plain: faulty.FaultyUpstream) -> None:
    with pytest.raises(Unavailable, match="no TLS"):
        client(plain.url.replace("http:", "https:")).page(FOO)


def test_a_slow_handshake_holds_up_nobody_else(secure: faulty.FaultyUpstream) -> None:
    """The system's store of authorities lets one handshake wait for another where they share a context."""
    upstream = client(secure.url, connect=5.0, page=5.0)

    def knock(address: str) -> None:
        with pytest.raises(Unavailable):
            upstream.open(address)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"https://127.0.0.1:{silent.getsockname()[1]}/f"
        thread = threading.Thread(target=knock, args=(address,))
        thread.start()
        with silent.accept()[0]:
            before = time.monotonic()
            with pytest.raises(Unavailable, match="certificate"):
                upstream.page(FOO)
            assert time.monotonic() - before < 2
        silent.close()
        thread.join()


def test_https_never_goes_on_to_http(
    secure: faulty.FaultyUpstream, plain: faulty.FaultyUpstream, authority: tuple[Path, ssl.SSLContext]
) -> None:
    upstream = client(secure.url, authority[0])
    secure.fault("/simple/foo/", faulty.redirect(f"{plain.url}foo/"))
    secure.fault("/f", faulty.redirect(f"{plain.base}files/foo-1.0.tar.gz"))
    for hop in (
        lambda: upstream.page(FOO),
        lambda: upstream.open(f"{secure.base}f", named=frozenset({("127.0.0.1", plain.port)})),
    ):
        with pytest.raises(Forbidden, match="without encryption"):
            hop()
    assert plain.requests == []
    secure.fault("/f", faulty.redirect(f"{secure.base}files/foo-1.0.tar.gz"))
    assert upstream.small(f"{secure.base}f", limit=1000) == b"x" * 1000


def fetched(upstream: Upstream) -> bytes | None:
    page = upstream.page(FOO)
    assert isinstance(page, FetchedPage)
    return upstream.small(f"{upstream.url[:-8]}/files/foo-1.0.tar.gz", limit=1000)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "--fallback-proxy"])
def test_https_goes_through_a_tunnel(
    name: str,
    proxy: forward_proxy.ForwardProxy,
    secure: faulty.FaultyUpstream,
    authority: tuple[Path, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy.password = SENT
    address = f"http://{ANN}127.0.0.1:{proxy.port}/"
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1/")  # for others
    if name != "--fallback-proxy":
        monkeypatch.setenv(name, address)
    upstream = client(f"https://{HOST}/simple/", authority[0], address if name == "--fallback-proxy" else None)
    assert fetched(upstream) == b"x" * 1000
    assert [(asked.method, asked.target) for asked in proxy.asked] == [("CONNECT", f"{HOST}:443")]  # and is kept
    assert len(secure.requests) == 2
    assert not any("proxy-authorization" in request.headers for request in secure.requests)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "--fallback-proxy"])
def test_http_is_forwarded(
    name: str, proxy: forward_proxy.ForwardProxy, plain: faulty.FaultyUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.password = SENT
    address = f"http://{ANN}127.0.0.1:{proxy.port}"
    monkeypatch.setenv("HTTPS_PROXY", "127.0.0.1:1")  # for others
    if name != "--fallback-proxy":
        monkeypatch.setenv(name, address.removeprefix("http://"))
    upstream = client(f"http://bob:own@{HOST}/simple/", None, address if name == "--fallback-proxy" else None)
    assert fetched(upstream) == b"x" * 1000
    assert [asked.method for asked in proxy.asked] == ["GET", "GET"]
    assert proxy.asked[0].target == f"http://{HOST}/simple/foo/"
    assert plain.requests[0].headers["authorization"] == "Basic " + base64.b64encode(b"bob:own").decode()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_proxy_itself_may_speak_tls(
    scheme: str, secure: faulty.FaultyUpstream, plain: faulty.FaultyUpstream, authority: tuple[Path, ssl.SSLContext]
) -> None:
    with forward_proxy.proxy({f"{HOST}:443": secure.port, f"{HOST}:80": plain.port}, authority[1]) as proxy:
        assert fetched(client(f"{scheme}://{HOST}/simple/", authority[0], proxy.url)) == b"x" * 1000
        with pytest.raises(Unavailable, match="certificate of the proxy that --fallback-proxy names"):
            client(f"{scheme}://{HOST}/simple/", None, proxy.url).page(FOO)


def test_idle_connections_that_were_forgotten_on_the_way_harm_nobody_within_tls_and_through_proxies(
    secure: faulty.FaultyUpstream, plain: faulty.FaultyUpstream, authority: tuple[Path, ssl.SSLContext]
) -> None:
    places = {f"{HOST}:443": secure.port, f"{HOST}:80": plain.port}
    with forward_proxy.proxy(places) as proxy, forward_proxy.proxy(places, authority[1]) as secret:
        ways = [
            client(secure.url, authority[0], read=10.0, page=10.0),
            client(f"http://{HOST}/simple/", None, proxy.url, read=10.0, page=10.0),
            client(f"https://{HOST}/simple/", authority[0], proxy.url, read=10.0, page=10.0),
            client(f"https://{HOST}/simple/", authority[0], secret.url, read=10.0, page=10.0),
        ]
        for upstream in ways:
            assert fetched(upstream) == b"x" * 1000
        time.sleep(2.1)  # only a connection that had a rest is doubted
        secure.forget()
        plain.forget()
        with ThreadPoolExecutor(len(ways)) as pool:
            assert list(pool.map(fetched, ways)) == [b"x" * 1000] * len(ways)


@pytest.mark.parametrize(
    ("direct", "through"),
    [
        ("", True),
        ("example.test, 127.0.0.1", False),
        ("other.test,127.0.0.0/8", False),
        ("127.0.0.1:{port}", False),
        ("*", False),
        ("127.0.0.2,27.0.0.1,10.0.0.0/8", True),
    ],
)
def test_no_proxy_is_heeded(
    direct: str,
    through: bool,
    proxy: forward_proxy.ForwardProxy,
    plain: faulty.FaultyUpstream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", direct.format(port=plain.port))
    proxy.names = {f"127.0.0.1:{plain.port}": plain.port}
    assert isinstance(client(plain.url).page(FOO), FetchedPage)
    assert bool(proxy.asked) == through


def test_no_proxy_names_hosts_with_all_below_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.test:3128")
    monkeypatch.setenv("NO_PROXY", "corp.example.test,.inner.test")
    ways = find(None, None)
    for host, through in (("corp.example.test", False), ("a.corp.example.test", False), ("x.inner.test", False)):
        assert (ways.proxy_for(origin_of(f"https://{host}/")) is not None) == through
    for host in ("acorp.example.test", "example.test", "[2001:db8::1]"):
        assert ways.proxy_for(origin_of(f"https://{host}/")) is not None


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named_and_not_shown(
    scheme: str, proxy: forward_proxy.ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"{scheme.upper()}_PROXY"
    monkeypatch.setenv(variable, f"http://{ANN}127.0.0.1:{proxy.port}")
    said = []
    for refusal, error, words in (
        (407, Unavailable, f"{variable}.*407"),
        (403, Unavailable, "403"),
        (504, Late, "504"),
    ):
        proxy.refusal = refusal
        with pytest.raises(error, match=words) as caught:
            client(f"{scheme}://{HOST}/simple/").page(FOO)
        said.append(caught.value)
    proxy.refusal = None
    for nonsense in (b"nonsense\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", b""):
        proxy.nonsense = nonsense
        with pytest.raises(Unavailable, match=f"proxy that {variable} names") as odd:
            client(f"{scheme}://{HOST}/simple/").page(FOO)
        said.append(odd.value)
    proxy.nonsense = None
    proxy.silent.set()
    before = time.monotonic()
    with pytest.raises(Late, match=f"proxy that {variable} names") as caught:
        client(f"{scheme}://{HOST}/simple/", page=0.8).page(FOO)
    assert time.monotonic() - before < 3
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv(variable, f"http://{ANN}127.0.0.1:{port}")
    with pytest.raises(Unavailable, match=f"{variable} names cannot be reached") as gone:
        client(f"{scheme}://{HOST}/simple/").page(FOO)
    for shown in (*said, caught.value, gone.value):
        assert not any(secret in str(shown) for secret in ("s3cr", "ann:", "127.0.0.1", SENT))


OTHER_KINDS = [
    "socks5://{}proxy.test:1080",
    "http://{}[::1/",
    "http://{}:3128",
    "ftp://{}x",
    "{}proxy host",
    '"http://{}x"',
]


@pytest.mark.parametrize("address", OTHER_KINDS)
def test_a_proxy_of_another_kind_is_refused_without_showing_its_address(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", address.format(ANN))
    with pytest.raises(ConfigError, match="ALL_PROXY") as caught:
        client("https://up.example.test/simple/")
    assert "s3cr" not in str(caught.value)
    with pytest.raises(ConfigError, match="--fallback-proxy"):
        find(None, address.format(ANN))
    monkeypatch.setenv("NO_PROXY", "*")
    client("https://up.example.test/simple/")


@pytest.mark.parametrize("address", OTHER_KINDS)
def test_a_proxy_of_another_kind_is_no_obstacle_to_what_does_not_go_through_it(
    address: str, plain: faulty.FaultyUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address.format(ANN))
    upstream = client(plain.url)
    assert fetched(upstream) == b"x" * 1000
    with pytest.raises(Unavailable, match="HTTPS_PROXY") as caught:
        upstream.open("https://files.example.test/f", named=frozenset({("files.example.test", 443)}))
    assert "s3cr" not in str(caught.value)
    monkeypatch.setenv("ALL_PROXY", address.format(ANN))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert fetched(client(plain.url)) == b"x" * 1000


@pytest.mark.parametrize("host", ["169.254.169.254", "127.0.0.1", "localhost", "2130706433", "10.0.0.1", "[::1]", "0"])
def test_a_proxy_is_asked_for_no_address_inside(host: str, proxy: forward_proxy.ForwardProxy) -> None:
    upstream = client(f"http://{HOST}/simple/", None, proxy.url)
    with pytest.raises(Forbidden):
        upstream.open(f"http://{host}/latest/")
    assert proxy.asked == []


def test_a_proxy_is_asked_for_addresses_inside_that_the_operator_names(
    proxy: forward_proxy.ForwardProxy, plain: faulty.FaultyUpstream
) -> None:
    proxy.names = {"10.0.0.1:80": plain.port, "127.0.0.1:80": plain.port}
    hosts = ("10.0.0.1", "localhost", "169.254.169.254")
    upstream = Upstream(f"http://{HOST}/simple/", ways=find(None, proxy.url), hosts=hosts)
    assert upstream.small("http://10.0.0.1/files/foo-1.0.tar.gz", limit=1000) == b"x" * 1000
    for host in ("10.0.0.2", "127.0.0.1", "169.254.169.254"):
        with pytest.raises(Forbidden):
            upstream.small(f"http://{host}/files/foo-1.0.tar.gz", limit=1000)
    local = Upstream("http://localhost/simple/", ways=find(None, proxy.url))
    assert local.small("http://10.0.0.1/files/foo-1.0.tar.gz", limit=1000) == b"x" * 1000


def test_a_redirect_through_a_proxy_goes_where_the_upstreams_pages_lead(
    proxy: forward_proxy.ForwardProxy, plain: faulty.FaultyUpstream
) -> None:
    proxy.names = {**proxy.names, "files.example.test:80": plain.port}
    plain.fault("/f", faulty.redirect("http://files.example.test/files/foo-1.0.tar.gz"))
    upstream = client(f"http://{HOST}/simple/", None, proxy.url)
    with pytest.raises(Forbidden):
        upstream.open(f"http://{HOST}/f")
    named = frozenset({("files.example.test", 80)})
    assert upstream.small(f"http://{HOST}/f", named=named, limit=1000) == b"x" * 1000


def test_a_web_server_that_passes_a_proxy_header_on_as_a_variable_names_no_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As CGI does, where a client could send us through a proxy of its own (CVE-2016-5385)."""
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    monkeypatch.setenv("HTTP_PROXY", "http://evil.example.test/")
    assert find(None, None).proxies == {}


def test_a_server_whose_environment_alone_names_authority_and_proxy_works_and_tells_nobody(
    proxy: forward_proxy.ForwardProxy,
    secure: faulty.FaultyUpstream,
    packages: Path,
    authority: tuple[Path, ssl.SSLContext],
) -> None:
    proxy.password = SENT
    address = f"http://{ANN}127.0.0.1:{proxy.port}"
    environment = {"HTTPS_PROXY": address, "NO_PROXY": "localhost", "REQUESTS_CA_BUNDLE": str(authority[0])}
    flags: dict[str, Any] = {"fallback_url": f"https://{HOST}/simple/", "fallback_mode": "cache"}
    with live.serve("-vv", packages=[packages], env=environment, **flags) as server:
        assert live.ask(server, "/packages/foo-1.0.tar.gz").body == b"x" * 1000
        proxy.password = "another"
        secure.fault("*", faulty.reset())  # or the tunnel would be used again
        seen = [server.log()]
        for path in ("/simple/new/", "/", "/health", "/simple/", "/simple/foo/", "/pypi/new/json"):
            for kind in ("application/json", "text/html"):
                answer = live.ask(server, path, Accept=kind)
                seen += [answer.text, str(answer.headers)]
        assert "HTTPS_PROXY" in "".join(seen)
        seen.append(server.log())
    for secret in ("s3cr", "ann:", SENT.split()[1], str(proxy.port)):
        assert secret not in "".join(seen)
    environment["HTTPS_PROXY"] = "http://127.0.0.1:1"
    with live.serve("-vv", packages=[packages], env=environment, fallback_proxy=address, **flags) as server:
        answer = live.ask(server, "/simple/foo/")
        assert answer.status == 502
        assert "--fallback-proxy names wants other credentials" in answer.text
        assert "s3cr" not in answer.text + server.log()


def test_a_proxy_that_cannot_be_used_ends_the_start_with_a_line(packages: Path, shell: live.Shell) -> None:
    words = ("-m", "pypiserver_lite", "run", "--fallback-mode", "proxy", "-p", "0", str(packages))
    ran = shell.python(*words, PYTHONPATH=str(live.SOURCE), HTTPS_PROXY=f"socks5://{ANN}x:1", NO_PROXY="")
    assert ran.code == 2
    assert "HTTPS_PROXY" in ran.said and "s3cr" not in ran.said and "Traceback" not in ran.said
    with pytest.raises(ConfigError, match="fallback_proxy") as caught:
        make_app(packages, fallback_mode="proxy", fallback_proxy=f"socks5://{ANN}x:1")
    assert "s3cr" not in str(caught.value)


def test_a_proxy_may_take_the_time_of_the_call_for_a_tunnel(
    proxy: forward_proxy.ForwardProxy, authority: tuple[Path, ssl.SSLContext]
) -> None:
    """It may look names up, log in somewhere, or scan."""
    proxy.delay = 1.5
    upstream = client(f"https://{HOST}/simple/", authority[0], proxy.url, connect=0.5, page=20.0)
    assert isinstance(upstream.page(FOO), FetchedPage)


@pytest.mark.parametrize(
    ("said", "proxied"),
    [(b"", False), (b"\x16\x03\x03\x40\x00" + bytes(200), False), (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200, True)],
    ids=["silence", "a byte of TLS now and then", "a byte of a proxy's answer now and then"],
)
def test_a_connection_that_takes_for_ever_is_given_up(said: bytes, proxied: bool) -> None:
    over = threading.Event()

    def dawdle(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            for at in range(len(said)):
                if over.wait(0.1):
                    return
                connection.send(said[at : at + 1])
            over.wait(20)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=dawdle, args=(listener,), daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        url, proxy = (f"https://{HOST}/", f"http://{address}") if proxied else (f"https://{address}/", None)
        before = time.monotonic()
        with pytest.raises(Late):
            client(url, None, proxy, connect=20.0, page=0.6).page(FOO)
        assert time.monotonic() - before < 5
        over.set()


def test_an_upstream_behind_a_proxy_that_speaks_tls_has_a_deadline_too(authority: tuple[Path, ssl.SSLContext]) -> None:
    """The bytes of its TLS come one by one, inside that of the proxy: in the handshake, or in the middle of a page."""
    for quick in (0, 1):
        over = threading.Event()

        def dawdle(listener: socket.socket, quick: int = quick, over: threading.Event = over) -> None:
            with listener.accept()[0] as connection:
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = authority[1].wrap_bio(incoming, outgoing, server_side=True)

                def talk(do: Callable[[], object]) -> None:
                    while True:
                        try:
                            do()
                        except ssl.SSLWantReadError:
                            connection.sendall(outgoing.read())
                            incoming.write(connection.recv(2**16))
                        else:
                            return

                if quick:
                    talk(tls.do_handshake)
                    talk(lambda: tls.read(2**16))
                    tls.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                    connection.sendall(outgoing.read())
                    tls.write(b"x" * 1000)
                slowly = outgoing.read() if quick else b"\x16\x03\x03\x40\x00" + bytes(2000)
                for at in range(len(slowly)):
                    if over.wait(0.05):
                        return
                    connection.send(slowly[at : at + 1])

        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=dawdle, args=(listener,), daemon=True).start()
            names = {f"{HOST}:443": listener.getsockname()[1]}
            with forward_proxy.proxy(names, authority[1]) as proxy:
                before = time.monotonic()
                with pytest.raises(Late):
                    client(f"https://{HOST}/simple/", authority[0], proxy.url, page=1.0).page(FOO)
                assert time.monotonic() - before < 10
                over.set()


def test_an_upstream_that_falls_silent_is_waited_for_no_longer_than_pip_waits(
    plain: faulty.FaultyUpstream, packages: Path
) -> None:
    """With the times that users get: 3 seconds for a kept page, 12 for another, 10 for a stalled file."""
    data = bytes(range(250)) * 4000
    path = plain.add("big", "big-1.0.tar.gz", data)
    flags: dict[str, Any] = {"fallback_mode": "cache", "cache_ttl": 0}
    with (
        faulty.upstream() as second,
        live.serve(packages=[packages], fallback_url=f"{plain.url} {second.url}", **flags) as server,
    ):
        live.ask(server, "/simple/foo/")
        live.ask(server, "/simple/big/")
        plain.fault("/simple/foo/", faulty.hang(30))
        plain.fault("/simple/silent/", faulty.hang(30))
        plain.fault("/simple/slow/", faulty.drip_header(0.4))
        plain.fault("/simple/late/", faulty.after(5.2, faulty.status(404)))
        plain.fault(path, faulty.stall(data, 500_000, 30, ETag=plain.stored[path].etag or ""), times=1)
        second.fault("/simple/late/", faulty.hang(30))

        def timed(path: str) -> tuple[live.Answer, float]:
            before = time.monotonic()
            return live.ask(server, path), time.monotonic() - before

        names = ("foo", "silent", "slow", "late")
        paths = [*(f"/simple/{name}/" for name in names), "/packages/big-1.0.tar.gz"]
        with ThreadPoolExecutor(5) as pool:
            (kept, kept_took), *others, (file, file_took) = pool.map(timed, paths)
    assert kept.status == 200
    assert kept.headers["warning"].startswith("110")
    assert kept_took < 9
    for other, took in others:
        assert other.status == 504
        assert took < 14.5
    assert file.body == data
    assert file_took < 20
    assert "range" in plain.requests[-1].headers

"""Popular HTTP clients get the same from httpbin through the gateway as directly.

curl and node are the machine's; their tests skip where they are missing.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests

from proxy.tests.conftest import SecondStage

pytestmark = pytest.mark.planes

MIB = 1024 * 1024
LARGE = b"0123456789abcdef" * (10 * MIB // 16)
# Set anew at each hop, or by the gateway.
OWN = ("date", "server", "via", "connection", "keep-alive", "transfer-encoding", "content-length", "vary",
       "x-request-id", "x-content-type-options", "referrer-policy", "cross-origin-opener-policy", "x-ratelimit-",
       "ratelimit", "access-control-")  # fmt: skip
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
needs_node = pytest.mark.skipif(not shutil.which("node"), reason="needs node")


@dataclass(frozen=True)
class Ways:
    """Two addresses of httpbin: its own, and that of the gateway, which requires the token."""

    direct: str
    through: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@pytest.fixture
def ways(second_stage: SecondStage) -> Ways:
    direct = f"http://127.0.0.1:{second_stage.httpbin_port}/api/v1/wallets"
    return Ways(direct, f"{second_stage.gateway.url}/wallets", second_stage.token)


@pytest.fixture
def session(ways: Ways) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.headers.update(ways.headers)
        yield session


@pytest.fixture
def client(ways: Ways) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=ways.through, headers=ways.headers, trust_env=False, timeout=30) as client:
        yield client


# requests.


def seen(response: requests.Response) -> tuple[int, str, list[tuple[str, str]], bytes]:
    """Return what a client gets: status, reason, the cluster's fields, and the raw body."""
    fields = [(name, value) for name, value in response.raw.headers.items() if not name.lower().startswith(OWN)]
    return response.status_code, response.reason, sorted(fields), response.raw.read(decode_content=False)


def both(session: requests.Session, ways: Ways, method: str, path: str, **more: Any) -> tuple[object, object]:
    """Return the direct answer, and the one through the gateway."""
    more |= {"allow_redirects": False, "stream": True}
    direct, through = (seen(session.request(method, f"{way}{path}", **more)) for way in (ways.direct, ways.through))
    return direct, through


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/html", {}),
        ("/xml", {}),
        ("/encoding/utf8", {}),
        ("/image/jpeg", {}),
        ("/bytes/102400?seed=1", {}),
        ("/stream-bytes/102400?seed=1&chunk_size=999", {}),
        ("/drip?duration=0.2&numbytes=5&delay=0", {}),
        ("/range/102400", {}),
        ("/range/1024", {"Range": "bytes=0-9"}),
        ("/range/1024", {"Range": "bytes=-9"}),
        ("/range/1024", {"Range": "bytes=1024-"}),
        ("/etag/abc", {"If-None-Match": '"abc"'}),
        ("/etag/abc", {"If-Match": '"other"'}),
        ("/cache", {"If-Modified-Since": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        ("/cookies/set?a=1&b=%C3%A9", {}),
        ("/cookies/delete?a", {"Cookie": "a=1; b=2"}),
        ("/cookies", {"Cookie": "a=1; b=2"}),
        ("/redirect/3", {}),
        ("/redirect-to?url=%2F%2Felsewhere.test%2F&status_code=308", {}),
        ("/response-headers?a=1&a=2&b=%C3%A9%20x&empty=", {}),
        ("/basic-auth/user/passwd", {}),
        ("/links/10/0", {}),
        ("/deny", {}),
        ("/nothing%20here?%C3%A9", {}),
    ],
)
def test_requests_gets_the_same_answer(
    session: requests.Session, ways: Ways, path: str, headers: dict[str, str]
) -> None:
    direct, through = both(session, ways, "GET", path, headers=headers)
    assert through == direct


def test_requests_gets_every_status(session: requests.Session, ways: Ways) -> None:
    for status in {*range(200, 600)} - {407}:  # the gateway drops its Proxy-Authenticate
        direct, through = both(session, ways, "GET", f"/status/{status}")
        assert through == direct


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/html", "/status/201", "/status/404", "/nothing"])
def test_requests_gets_the_same_answer_for_every_method(
    session: requests.Session, ways: Ways, method: str, path: str
) -> None:
    direct, through = both(session, ways, method, path)
    assert through == direct


@pytest.mark.parametrize("coding", ["gzip", "deflate", "brotli"])
def test_requests_decodes_encoded_answers(session: requests.Session, ways: Ways, coding: str) -> None:
    through = session.get(f"{ways.through}/{coding}")
    assert through.headers["Content-Encoding"] == {"brotli": "br"}.get(coding, coding)
    assert through.json()["method"] == "GET"


QUERIES = ["q=%C3%A9&q=%F0%9F%98%80", "a=1&a=2&a=", "empty=&=x&&", "plus=a+b&space=a%20b", "slash=/../x&q=?&semi=a;b",
           "quotes='()*!", "long=" + "x" * 4000]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_arrives_as_it_was_sent(session: requests.Session, ways: Ways, query: str) -> None:
    direct, through = (session.get(f"{way}/anything?{query}").json() for way in (ways.direct, ways.through))
    assert through["args"] == direct["args"]
    assert through["url"].partition("/anything")[2] == direct["url"].partition("/anything")[2]


def test_requests_posts_and_gets_ten_megabytes(session: requests.Session, ways: Ways) -> None:
    response = session.post(f"{ways.through}/post", data=LARGE, headers={"Content-Type": "text/plain"})
    assert response.json()["data"] == LARGE.decode()


@pytest.mark.django_plane  # nginx sends the length of a body that has arrived as a whole
def test_requests_sends_chunks_and_files_and_forms(session: requests.Session, ways: Ways) -> None:
    chunks = session.post(f"{ways.through}/post", data=iter([b"he", b"", b"llo"])).json()
    files = session.post(f"{ways.through}/post", files={"f": ("é.txt", b"\x00\xff")}, data={"é": ["1", "2"]}).json()
    assert (chunks["data"], chunks["headers"]["Transfer-Encoding"]) == ("hello", "chunked")
    assert files["files"] == {"f": "data:application/octet-stream;base64,AP8="}
    assert files["form"] == {"é": ["1", "2"]}


def test_requests_reuses_its_connection_and_keeps_its_cookies(session: requests.Session, ways: Ways) -> None:
    for _ in range(5):
        session.get(f"{ways.through}/cookies/set?a=1", allow_redirects=False)
    assert session.get(f"{ways.through}/cookies").json() == {"cookies": {"a": "1"}}
    pools = session.get_adapter(ways.through).poolmanager.pools  # type: ignore[attr-defined]
    (pool,) = (pools[key] for key in pools.keys())  # noqa: SIM118  # it cannot be iterated
    assert (pool.num_connections, pool.num_requests) == (1, 6)


def test_requests_waits_for_a_delayed_answer(session: requests.Session, ways: Ways) -> None:
    started = time.monotonic()
    assert session.get(f"{ways.through}/delay/1").status_code == 200
    assert time.monotonic() - started >= 1


# httpx.


def local_port(response: httpx.Response) -> int:
    """Return the client's end of the connection."""
    port: int = response.extensions["network_stream"].get_extra_info("client_addr")[1]
    return port


def test_httpx_uses_one_connection_for_all_methods(client: httpx.Client) -> None:
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    answers = [client.request(method, f"/anything/{method}", content=b"x") for method in methods]
    assert [answer.json()["method"] for answer in answers] == methods
    assert len({local_port(answer) for answer in answers}) == 1
    assert {answer.http_version for answer in answers} == {"HTTP/1.1"}


def test_httpx_streams_up(client: httpx.Client) -> None:
    pieces = (LARGE[n : n + 100_000] for n in range(0, len(LARGE), 100_000))
    answer = client.post("/post", content=pieces, headers={"Content-Type": "text/plain"})
    assert answer.json()["data"] == LARGE.decode()


def test_httpx_streams_down(client: httpx.Client, ways: Ways) -> None:
    path = "/stream-bytes/102400?seed=3&chunk_size=1000"
    with client.stream("GET", path) as answer:
        body = b"".join(answer.iter_raw())
    assert body == httpx.get(f"{ways.direct}{path}", trust_env=False).content


def test_httpx_works_after_leaving_a_stream(client: httpx.Client) -> None:
    with client.stream("GET", "/drip?duration=20&numbytes=20&delay=0") as answer:
        assert next(answer.iter_raw()) == b"*"
    assert client.get("/status/204").status_code == 204


def test_httpx_follows_redirects_and_decodes(client: httpx.Client) -> None:
    answer = client.get("/redirect/3", follow_redirects=True)
    assert (answer.status_code, len(answer.history)) == (200, 3)
    assert client.get("/brotli").json()["brotli"] is True


# curl.


def curl(ways: Ways, *arguments: str | Path, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    command = ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", "20", "-H", f"Authorization: Bearer {ways.token}"]
    return subprocess.run([*command, *arguments], input=stdin, capture_output=True, check=True)


@needs_curl
def test_curl_fetches_several_addresses_over_one_connection(ways: Ways) -> None:
    arguments = [part for n in range(3) for part in ("-o", "/dev/null", f"{ways.through}/bytes/{n + 1}")]
    out = curl(ways, "-w", "%{http_code} %{num_connects} %{size_download}\n", *arguments)
    assert out.stdout == b"200 1 1\n200 0 2\n200 0 3\n"


@needs_curl
@pytest.mark.parametrize("coding", ["gzip", "deflate", "brotli"])
def test_curl_decodes(ways: Ways, coding: str) -> None:
    assert json.loads(curl(ways, "--compressed", f"{ways.through}/{coding}").stdout)["method"] == "GET"


@needs_curl
def test_curl_uploads_in_chunks(ways: Ways) -> None:
    answer = json.loads(curl(ways, "-T", "-", f"{ways.through}/put", stdin=LARGE[: 2 * MIB]).stdout)
    assert answer["headers"]["Transfer-Encoding"] == "chunked"
    assert answer["data"] == LARGE[: 2 * MIB].decode()


@needs_curl
def test_curl_waits_for_100_continue(ways: Ways, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(LARGE[: 2 * MIB])
    out = curl(
        ways, "-v", "--expect100-timeout", "15", "--data-binary", f"@{tmp_path / 'body'}", f"{ways.through}/post"
    )
    assert b"> Expect: 100-continue" in out.stderr
    assert b"< HTTP/1.1 100 Continue" in out.stderr
    assert "Expect" not in json.loads(out.stdout)["headers"]


@needs_curl
def test_curl_that_offers_http_2_is_served_with_http_1(ways: Ways) -> None:
    out = curl(ways, "-v", "--http2", "-w", "%{http_version}", f"{ways.through}/bytes/0", f"{ways.through}/bytes/0")
    if b"> Upgrade: h2c" not in out.stderr:
        pytest.skip("this curl speaks no HTTP/2")
    assert out.stdout == b"1.11.1"
    assert b"101" not in out.stderr.partition(b"< HTTP")[2][:20]


@needs_curl
def test_curl_gets_the_head(ways: Ways) -> None:
    head = curl(ways, "-I", f"{ways.through}/bytes/1000").stdout.decode().lower()
    assert head.startswith("http/1.1 200 ok")
    assert "content-length: 1000\r\n" in head


@needs_curl
def test_curl_gets_a_range(ways: Ways) -> None:
    out = curl(ways, "-r", "10-19", "-w", " %{http_code}", f"{ways.through}/range/26")
    assert out.stdout == b"klmnopqrst 206"


@needs_curl
@pytest.mark.parametrize("query", ["%", "a=%zz&b=%2", "a=b%00c", "a[]=1&b={x}|^", "a=%2e%2e%2f"])
def test_an_unusual_query_arrives_as_curl_sent_it(ways: Ways, query: str) -> None:
    out = [curl(ways, "-g", "--path-as-is", f"{way}/anything?{query}").stdout for way in (ways.direct, ways.through)]
    direct, through = (json.loads(text) for text in out)
    assert through["args"] == direct["args"]


@needs_curl
def test_curl_follows_redirects(ways: Ways) -> None:
    out = curl(ways, "-L", "-o", "/dev/null", "-w", "%{http_code} %{num_redirects}", f"{ways.through}/redirect/3")
    assert out.stdout == b"200 3"


# node's fetch, which is undici.

SCRIPT = """
const [base, authorization] = process.argv.slice(1);
const ask = (path, more = {}) => fetch(base + path, {...more, headers: {authorization, ...more.headers}});
const json = async (...rest) => (await ask(...rest)).json();
const pieces = () => new ReadableStream({
  start(c) { for (let n = 0; n < 100; n++) c.enqueue(new Uint8Array(1000).fill(97)); c.close(); }
});
(async () => {
  const left = new AbortController();
  const drip = await ask('/drip?duration=20&numbytes=20&delay=0', {signal: left.signal});
  await drip.body.getReader().read(); left.abort();
  const cookies = await ask('/cookies/set?a=1', {redirect: 'manual'});
  const post = async (body, more) => json('/post', {method: 'POST', body, ...more});
  const text = {'content-type': 'text/plain'};
  const numbers = await Promise.all([...Array(20).keys()].map(n => json('/anything?n=' + n)));
  console.log(JSON.stringify({
    gzip: (await json('/gzip')).gzipped,
    brotli: (await json('/brotli')).brotli,
    deflate: (await json('/deflate')).deflated,
    chunks: (await post(pieces(), {duplex: 'half'})).data.length,
    large: (await post('x'.repeat(10 << 20), {headers: text})).data.length,
    query: (await json('/anything?q=é&q=2&empty=&p=a+b')).args,
    form: (await post(new URLSearchParams({'é': '1'}))).form,
    redirected: (await json('/redirect/3')).url.endsWith('/get'),
    cookies: [cookies.status, cookies.headers.getSetCookie().length],
    statuses: await Promise.all([200, 204, 304, 404, 418, 503].map(async s => (await ask('/status/' + s)).status)),
    head: (await ask('/bytes/77', {method: 'HEAD'})).headers.get('content-length'),
    patch: (await json('/anything', {method: 'PATCH', body: '{}'})).method,
    parallel: new Set(numbers.map(answer => answer.args.n)).size,
  }));
  process.exit();
})();
"""


@needs_node
def test_fetch_of_node_gets_the_right_answers(ways: Ways) -> None:
    command = ["node", "-e", SCRIPT, ways.through, f"Bearer {ways.token}"]
    out = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert json.loads(out.stdout or b"null") == {
        "gzip": True, "brotli": True, "deflate": True, "chunks": 100_000, "large": 10 * MIB, "redirected": True,
        "query": {"q": ["é", "2"], "empty": "", "p": "a b"}, "form": {"é": "1"}, "cookies": [302, 1],
        "statuses": [200, 204, 304, 404, 418, 503], "head": "77", "patch": "PATCH", "parallel": 20,
    }, out.stderr  # fmt: skip

"""Downloads from a real server that redirects, stalls, is slow, lies, disconnects, and changes its files."""

import dataclasses
import email.utils
import io
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.model_source import source as model_source
from app.model_source.source import ModelSourceError
from app.settings import Settings
from ml.model import download, host
from ml.model.download import Policy
from ml.model.http import MAX_REDIRECTS
from tests.helpers.model_server import (
    FAST,
    MODEL,
    OTHER,
    SIZE,
    Answer,
    ModelServer,
    archive,
    etag,
    get,
    impatient,
    redirect,
)  # fmt: skip
from tests.helpers.waiting import HANG_S, until

HALF = SIZE // 2


def left(cache: Path) -> list[str]:
    """Files in the cache other than complete models."""
    return [path.name for path in cache.iterdir() if ".part" in path.name or path.suffix == ".tmp"]


def test_archives_have_the_requested_size():
    assert len(MODEL) == len(OTHER) == SIZE
    assert zipfile.ZipFile(io.BytesIO(MODEL)).testzip() is None


@pytest.mark.parametrize(
    "answer",
    [
        Answer(),
        Answer(chunked=True),
        Answer(headers={"Content-Length": None}),
        Answer(headers={"ETag": None}),
    ],
    ids=["plain", "chunked", "without length", "without tag"],
)
def test_a_download_is_stored_completely(server, cache, answer):
    server.answers["/model.pt"] = [answer]
    began = time.perf_counter()
    file = get(server, cache)
    assert file.path.read_bytes() == MODEL
    assert 0 < file.download_seconds <= time.perf_counter() - began
    assert left(cache) == []


def test_a_download_is_never_completely_in_memory(server, cache):
    server.files["/model.pt"] = large = archive(3, 30_000_000)
    tracemalloc.start()
    try:
        path = get(server, cache).path
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size == len(large)
    assert peak < 5_000_000


TEMPORARY = {
    "429": [Answer(429), Answer()],
    "500, 503": [Answer(500), Answer(503), Answer()],
    "408": [Answer(408), Answer()],
    "403, rate limit": [Answer(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}), Answer()],
    "403, rate limit without time": [Answer(403, {"X-RateLimit-Remaining": "0"}), Answer()],
    "403, secondary rate limit": [Answer(403, {"Retry-After": "1"}), Answer()],
    "cut": [Answer(stop=HALF), Answer()],
    "empty": [Answer(stop=0), Answer()],
    "stall": [Answer(stall=HALF), Answer()],
    "stall at once": [Answer(stall=0), Answer()],
    "slow header": [Answer(slow_header=True), Answer()],
    "cut chunks": [Answer(chunked=True, stop=HALF), Answer(chunked=True)],
    # All of it came: 416, then anew.
    "long": [Answer(headers={"Content-Length": str(SIZE + 10)}), Answer(), Answer()],
}


@pytest.mark.parametrize("answers", TEMPORARY.values(), ids=TEMPORARY)
def test_a_temporary_failure_is_retried(server, cache, answers):
    server.answers["/model.pt"] = list(answers)
    policy = FAST
    if answers[0].stall is not None:
        policy = impatient(read_s=2.0)
    elif answers[0].slow_header:
        policy = impatient(answer_s=2.0)
    assert get(server, cache, policy=policy).path.read_bytes() == MODEL
    assert len(server.requests()) == len(answers)
    assert left(cache) == []


def test_pauses_grow_and_differ():
    tries = [download.Download(None, Policy(backoff_s=1.0, backoff_max_s=5.0), print) for _ in range(20)]
    first, second, third, late = ([one._pause(attempt, 0.0) for one in tries] for attempt in (1, 2, 3, 9))
    assert 0.5 <= min(first) < max(first) <= 1.0 <= min(second) < max(second) <= 2.0 <= min(third)
    assert 2.5 <= min(late) < max(late) <= 5.0


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_respected_up_to_a_limit(server, cache, status, form):
    value = "1000" if form == "seconds" else email.utils.formatdate(time.time() + 1000, usegmt=True)
    server.answers["/model.pt"] = [Answer(status, {"Retry-After": value}), Answer()]
    began = time.perf_counter()
    get(server, cache)
    assert FAST.retry_after_max_s <= time.perf_counter() - began < 1000


def test_the_reset_of_a_rate_limit_is_respected_up_to_a_limit(server, cache):
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 1000)}
    server.answers["/model.pt"] = [Answer(403, reset), Answer()]
    began = time.perf_counter()
    get(server, cache)
    assert FAST.retry_after_max_s <= time.perf_counter() - began < 1000


@pytest.mark.parametrize("value", ["soon", "-5", "", "Thu, 99 Foo", email.utils.formatdate(0)])
def test_an_invalid_retry_after_is_ignored(server, cache, value, caplog):
    caplog.set_level("INFO", "ml")
    server.answers["/model.pt"] = [Answer(503, {"Retry-After": value}), Answer()]
    get(server, cache)
    assert "trying again in 0.0 s" in caplog.text


@pytest.mark.parametrize(
    ("answer", "message", "attempts"),
    [
        (Answer(404), "127.0.0.1 answered 404", 1),
        (Answer(401), "answered 401", 1),
        (Answer(403), "answered 403", 1),
        (Answer(403, {"X-RateLimit-Remaining": "41"}), "answered 403", 1),
        (Answer(304), "answered 304", 1),
        (Answer(204), "answered 204", 1),
        (Answer(302), "answered 302", 1),
        (Answer(503), "answered 503", 3),
        (Answer(stop=0), "broke", 3),
        (Answer(stall=0), "(nothing arrived|no answer) in time", 3),  # the latter on a busy machine
        (Answer(slow_header=True), "no answer in time", 3),
        (Answer(headers={"Content-Encoding": "gzip"}), "compressed", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_permanent_failure_is_one_line_without_secrets(server, cache, caplog, answer, message, attempts):
    caplog.set_level("DEBUG", "ml")
    server.answers["/model.pt"] = [answer]
    url = server.url.replace("//", "//user:hidden@") + "/model.pt?key=hidden#hidden"
    policy = FAST
    if answer.stall is not None:
        policy = impatient(read_s=0.4)
    elif answer.slow_header:
        policy = impatient(answer_s=0.8)
    settings = Settings(model_url=url, model_token="hidden", model_cache_dir=cache)
    with pytest.raises(ModelSourceError, match=message) as caught:
        model_source.fetch(settings, policy=policy)
    assert f"can't download {server.url}/model.pt: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value) + caplog.text
    until(lambda: len(server.requests()) >= attempts)  # its thread may come later than the client's patience
    assert len(server.requests()) == attempts
    assert left(cache) == []


def test_an_unreachable_server(server, cache):
    with ModelServer().serving() as gone:
        pass
    with pytest.raises(ModelSourceError, match="no connection"):
        get(gone, cache)


def test_a_trickle_counts_as_a_stall(server, cache):
    server.answers["/model.pt"] = [Answer(trickle=0.01)]  # a piece within every timeout, and far too slow
    with pytest.raises(ModelSourceError, match="stalled"):
        get(server, cache, policy=dataclasses.replace(FAST, attempts=1, slow_s=2, slow_bytes=100_000))


def test_all_attempts_together_have_a_deadline(server, cache):
    policy = Policy(attempts=99, backoff_s=0.05, slow_bytes=0, total_s=0.5)
    server.answers["/model.pt"] = [Answer(trickle=0.01)]
    with pytest.raises(ModelSourceError, match="not complete after"):
        get(server, cache, policy=policy)
    server.answers["/model.pt"] = [Answer(500)]
    with pytest.raises(ModelSourceError, match="500"):
        get(server, cache, policy=policy)
    assert len(server.requests()) < policy.attempts


@pytest.mark.parametrize("chunked", [False, True])
def test_an_endless_download_is_given_up(server, cache, chunked):
    server.answers["/model.pt"] = [Answer(chunked=chunked)]
    with pytest.raises(ModelSourceError, match="larger than 200,000 bytes"):
        get(server, cache, policy=dataclasses.replace(FAST, max_bytes=HALF))
    assert left(cache) == []


def test_a_file_too_large_for_the_memory_is_given_up(server, cache, tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text(str(3 * HALF))
    (tmp_path / "membership").write_text("0::/\n")
    monkeypatch.setattr(host, "CGROUPS", tmp_path)
    monkeypatch.setattr(host, "MEMBERSHIP", tmp_path / "membership")
    with pytest.raises(ModelSourceError, match="larger than 200,000 bytes"):
        get(server, cache)
    assert left(cache) == []


def test_a_length_that_is_too_short_leaves_no_model(server, cache):
    server.answers["/model.pt"] = [Answer(headers={"Content-Length": str(HALF)})]
    with pytest.raises(ModelSourceError, match="cut short"):
        get(server, cache)
    assert list(cache.glob("*.pt")) == left(cache) == []


def test_a_page_in_place_of_the_model_leaves_no_model(server, cache):
    server.files["/model.pt"] = b"<html>Sign in</html>"
    with pytest.raises(ModelSourceError, match="not a ZIP"):
        get(server, cache)
    assert list(cache.glob("*.pt")) == left(cache) == []


# Ranges


def test_an_interrupted_download_is_resumed(server, cache):
    server.answers["/model.pt"] = [Answer(stop=HALF), Answer()]
    assert get(server, cache).path.read_bytes() == MODEL
    first, second = server.requests()
    assert "range" not in first.headers
    assert second.headers["range"] == f"bytes={HALF}-"
    assert second.headers["if-range"] == etag(MODEL)
    assert server.sent() == SIZE


def test_a_later_start_resumes(server, cache):
    server.answers["/model.pt"] = [Answer(stop=HALF), Answer()]
    with pytest.raises(ModelSourceError, match=r"broke, .* after 200,000 of 400,000 bytes"):
        get(server, cache, policy=Policy(attempts=1))
    assert len(left(cache)) == 2
    assert get(server, cache).path.read_bytes() == MODEL
    assert server.sent() == SIZE
    assert left(cache) == []


@pytest.mark.parametrize("dated", [False, True])
def test_a_weak_tag_does_not_resume_but_a_date_does(server, cache, dated):
    date = "Mon, 23 Nov 2026 10:00:00 GMT"
    headers = {"ETag": 'W/"1"'} | ({"Last-Modified": date} if dated else {})
    server.answers["/model.pt"] = [Answer(stop=HALF, headers=headers), Answer(headers=headers)]
    assert get(server, cache).path.read_bytes() == MODEL
    assert server.requests()[1].headers.get("if-range") == (date if dated else None)
    assert server.sent() == (SIZE if dated else SIZE + HALF)


@pytest.mark.parametrize(
    ("second", "third"),
    [
        (Answer(), False),  # a good server sees by If-Range that it must send all of it
        (Answer(if_range=False), True),  # a bad one sends the rest of the other file
        (Answer(if_range=False, headers={"ETag": etag(MODEL), "Content-Range": "bytes 1-9/10"}), True),
        (Answer(416), True),
        (Answer(ranges=False), False),
    ],
    ids=["if-range", "other tag", "other range", "416", "no ranges"],
)
def test_a_file_that_changes_between_two_ranges_is_never_mixed(server, cache, second, third):
    def change() -> None:
        server.files["/model.pt"] = OTHER

    second.before = change
    server.answers["/model.pt"] = [Answer(stop=HALF), second, Answer()]
    assert get(server, cache).path.read_bytes() == OTHER
    assert ["range" in request.headers for request in server.requests()] == [False, True] + [False] * third


@pytest.mark.parametrize(
    "content_range",
    [
        f"bytes {HALF - 1}-{SIZE - 1}/{SIZE}",
        f"bytes 0-{SIZE - 1}/{SIZE}",
        f"bytes {HALF}-{SIZE - 2}/{SIZE}",
        f"bytes {HALF}-{SIZE}/{SIZE + 1}",
        f"bytes {HALF}-{SIZE - 1}/*",
        "items 1-2/3",
        None,
    ],
)
def test_a_range_that_does_not_fit_restarts_the_download(server, cache, content_range):
    wrong = Answer(headers={"Content-Range": content_range})
    server.answers["/model.pt"] = [Answer(stop=HALF), wrong, Answer()]
    assert get(server, cache).path.read_bytes() == MODEL
    assert ["range" in request.headers for request in server.requests()] == [False, True, False]


def test_a_range_that_is_shorter_than_announced_is_completed(server, cache):
    server.answers["/model.pt"] = [Answer(stop=HALF), Answer(headers={"Content-Length": "1000"}), Answer()]
    assert get(server, cache).path.read_bytes() == MODEL
    assert server.requests()[2].headers["range"] == f"bytes={HALF + 1000}-"


def test_a_range_that_was_not_requested_is_rejected(server, cache):
    server.answers["/model.pt"] = [Answer(206, {"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}"})]
    with pytest.raises(ModelSourceError, match="changed"):
        get(server, cache)


# Redirects


@pytest.fixture
def elsewhere() -> Iterator[ModelServer]:
    with ModelServer().serving() as server:
        server.files["/model.pt"] = MODEL
        yield server


def authorizations(server: ModelServer) -> list[tuple[str, str | None]]:
    return [
        (request.path, request.headers.get("authorization"))
        for request in server.seen
        if not request.path.endswith(".sha256")
    ]


def test_the_token_stays_with_its_host(server, elsewhere, cache, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"  # a person's netrc must neither replace the token nor follow the redirect
    netrc.write_text("machine 127.0.0.1 login someone password else\nmachine localhost login a password b\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.answers["/name"] = [redirect(f"http://localhost:{server.port}/model.pt")]
    server.answers["/port"] = [redirect(f"{elsewhere.url}/model.pt")]
    for number, path in enumerate(("/name", "/port")):
        get(server, cache / str(number), path, model_token="t0ken")
    sent = [("/name", "Bearer t0ken"), ("/model.pt", None), ("/port", "Bearer t0ken")]
    assert authorizations(server) == sent
    assert authorizations(elsewhere) == [("/model.pt", None)]


def test_the_token_is_not_sent_again_after_a_redirect_back(server, elsewhere, cache):
    server.answers["/away"] = [redirect(f"{elsewhere.url}/back")]
    elsewhere.answers["/back"] = [redirect(f"{server.url}/model.pt")]
    get(server, cache, "/away", model_token="t0ken")
    assert authorizations(server) == [("/away", "Bearer t0ken"), ("/model.pt", None)]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_token_follows_redirects_on_its_host(server, cache, status):
    server.answers["/here"] = [redirect("/model.pt?x=1", status)]
    get(server, cache, "/here", model_token="t0ken")
    assert authorizations(server) == [("/here", "Bearer t0ken"), ("/model.pt?x=1", "Bearer t0ken")]


def test_user_info_is_treated_like_a_token(server, elsewhere, cache):
    server.answers["/port"] = [redirect(f"{elsewhere.url}/model.pt")]
    url = server.url.replace("//", "//a%40b:c@") + "/port"
    model_source.fetch(Settings(model_url=url, model_cache_dir=cache), policy=FAST)
    assert authorizations(server) == [("/port", "Basic YUBiOmM=")]
    assert authorizations(elsewhere) == [("/model.pt", None)]


def test_https_does_not_redirect_to_http(server, cache, tls):
    with ModelServer(tls).serving() as secure:
        for location in (f"{server.url}/model.pt", f"//127.0.0.1:{secure.port}/insecure"):
            secure.answers["/model.pt"] = [redirect(location)]
            secure.answers["/insecure"] = [redirect(f"HTTP://127.0.0.1:{server.port}/model.pt")]
            with pytest.raises(ModelSourceError, match=r"127\.0\.0\.1 redirects from https to http"):
                get(secure, cache, model_token="t0ken")
    assert server.seen == []


def test_https_redirects_to_https(cache, tls):
    with ModelServer(tls).serving() as secure, ModelServer(tls).serving() as storage:
        secure.answers["/model.pt"] = [redirect(f"{storage.url}/model.pt")]
        storage.files["/model.pt"] = MODEL
        assert get(secure, cache, model_token="t0ken").path.read_bytes() == MODEL
    assert authorizations(storage) == [("/model.pt", None)]


def test_an_untrusted_certificate_is_rejected(cache, tls, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with ModelServer(tls).serving() as secure, pytest.raises(ModelSourceError, match="SSLError"):
        get(secure, cache)
    assert secure.seen == []


def test_the_number_of_redirects_is_limited(server, cache):
    server.answers["/loop"] = [redirect("/loop")]
    with pytest.raises(ModelSourceError, match="more than 10 redirects"):
        get(server, cache, "/loop")
    assert len(server.seen) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "location", ["file:///etc/hostname", "ftp://localhost/model.pt", "http://x:port/", "http://[/"]
)
def test_a_redirect_to_another_scheme_is_rejected(server, cache, location):
    server.answers["/model.pt"] = [redirect(location)]
    with pytest.raises(ModelSourceError, match="something other than"):
        get(server, cache)
    assert len(server.seen) == 1


def test_messages_name_only_the_host_of_a_redirect(server, elsewhere, cache, caplog):
    caplog.set_level("DEBUG", "ml")
    target = f"http://u:hidden@localhost:{elsewhere.port}/hidden?signature=hidden"
    server.answers["/model.pt"] = [redirect(target)]
    elsewhere.answers["/hidden"] = [Answer(503), Answer(404)]
    with pytest.raises(ModelSourceError, match="localhost answered 404") as caught:
        get(server, cache)
    assert "hidden" not in str(caught.value) + caplog.text
    assert "localhost answered 503" in caplog.text
    assert elsewhere.paths() == ["/hidden?signature=hidden"] * 2


def test_a_resumed_download_goes_through_the_redirect_again(server, elsewhere, cache):
    server.answers["/asset"] = [redirect(f"{elsewhere.url}/model.pt?signature=1")]
    elsewhere.answers["/model.pt"] = [Answer(stop=HALF), Answer()]
    assert get(server, cache, "/asset").path.read_bytes() == MODEL
    assert elsewhere.sent() == SIZE
    assert server.paths()[:2] == ["/asset", "/asset"]


# Bodies without end

ENDLESS = {
    "chunk line": (b"", b"0", 0.01),
    "extension of a chunk": (b"3;", b"a", 0.01),
    "trailers": (b"3\r\nabc\r\n0\r\n", b"X: y\r\n", 0.01),
    "trailers without pause": (b"0\r\n", b"X: y\r\n" * 10_000, 0),
}


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("suffix", ["", ".sha256", ".sig"])
@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS)
def test_a_body_without_end_ends_at_the_deadline(cache, tls, endless, suffix, secure, monkeypatch):
    monkeypatch.setattr("ml.model.download._DIGEST_FILE_S", 0.5)
    with ModelServer(tls if secure else None).serving() as server, ThreadPoolExecutor(1) as thread:
        server.files["/model.pt"] = MODEL
        server.answers[f"/model.pt{suffix}"] = [Answer(endless=endless)]
        policy = dataclasses.replace(impatient(read_s=0.5), attempts=2)
        started = thread.submit(get, server, cache, policy=policy, model_public_key=(bytes(32),))
        try:
            # On a busy machine, half a second may end before the answer begins, or between two of its pieces.
            with pytest.raises(ModelSourceError, match=r"(arrived|no answer) in time|arrives too slowly"):
                started.result(HANG_S)
        finally:
            server.gate.set()
        until(lambda: server.requests(f"/model.pt{suffix}"))
    assert len(server.requests(f"/model.pt{suffix}")) in (1, 2)

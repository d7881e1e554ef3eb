"""The client of GitHub's releases: lists, retries, rate limits, errors, and which hosts get the token."""

import email.utils
import hashlib
import io
import json
import sys
import time
from dataclasses import replace

import pytest
import requests
from github.GitRelease import GitRelease
from github.GitReleaseAsset import GitReleaseAsset

from app.inference.loading import load
from app.model_source import source as model_source
from app.settings import Settings
from ml import cli
from ml.model.errors import PipelineError
from release.__main__ import COMMANDS
from release.github import GitHub, check_tag, sha256
from release.model_url import variables
from release.transport import (
    ExistsError,
    GitHubError,
    NotFoundError,
    Patience,
    UnavailableError,
    UnsureError,
    own_origins,
    site,
)
from scripts.standins import github as standin
from scripts.standins.github import REPOSITORY, TOKEN, Fault
from tests.helpers.http_server import Handler, Server
from tests.helpers.project import make_project
from tests.helpers.waiting import HANG_S

FAST = Patience(attempts=3, pause_s=0.01, unclear_s=0.03, total_s=HANG_S, connect_s=HANG_S, response_s=HANG_S)
MODEL = b"the model" * 1000
NOT_DOCUMENTED = r"has no valid|not what GitHub documents"
DIGEST = hashlib.sha256(MODEL).hexdigest()
FILES = {"model.pt": MODEL, "model.pt.sha256": f"{DIGEST}  model.pt\n".encode()}


@pytest.fixture
def github():
    with standin.GitHub().serving() as github:
        yield github


def client(github, token=TOKEN, patience=FAST, **options):
    lines = []
    made = GitHub(REPOSITORY, token, github.url, patience, lines.append, **options)
    made.lines = lines
    return made


def fail(times, **fault):
    """Return a hook that makes the first requests fail at a step."""
    phase = fault.pop("phase", "before")
    left = [times]

    def hook(step):
        if step.phase == phase and left[0]:
            left[0] -= 1
            return Fault(**fault)
        return None

    return hook


def test_latest_by_tag_and_drafts(github):
    releases = client(github)
    assert releases.latest() is None
    github.store.add("v1.0.0", FILES)
    github.store.add("v1.1.0", FILES)
    github.store.add("v2.0.0-rc.1", FILES, prerelease=True)
    github.store.add("v2.0.0", FILES, draft=True)
    github.store.add("v2.0.0", FILES, draft=True)
    assert releases.latest().tag_name == "v1.1.0"
    assert releases.by_tag("v1.0.0").tag_name == "v1.0.0"
    assert releases.by_tag("v2.0.0") is None
    first, second = releases.drafts("v2.0.0")
    assert first.id < second.id
    for token in (f"{TOKEN}_read", ""):  # without the right to push
        assert client(github, token).drafts("v2.0.0") == []
        with pytest.raises(NotFoundError):
            client(github, token).release(first.id)


def test_lists_of_many_pages(github):
    github.page_size = 2
    for number in range(7):
        github.store.add(f"v1.0.{number}", {}, draft=True)
    release = github.store.add("v2.0.0", {f"file{number}": b"x" for number in range(5)})
    releases = client(github)
    assert len(releases.drafts("v1.0.0")) == 1
    assert len(releases.drafts("v1.0.6")) == 1
    names = [asset.name for asset in releases.assets(releases.release(release.id))]
    assert names == [f"file{number}" for number in range(5)]


def test_other_hosts_get_no_request(github, foreign, tmp_path):
    """The API may name another host for the next page, a release, an upload or an asset."""
    foreign_url, seen = foreign
    release = client(github).release(github.store.add("v1", {"x": b"x"}, draft=True).id)
    asset = client(github).assets(release)[0]
    link = (("Link", f'<{foreign_url}/releases?page=2>; rel="next"'), ("Content-Type", "application/json"))
    github.hook = lambda step: Fault(200, link, body=[release.raw_data])
    with pytest.raises(GitHubError):
        client(github).drafts("v1")
    github.hook = lambda step: None
    url, upload_url = f"{foreign_url}/x", f"{foreign_url}/x{{?name,label}}"
    hostile = GitRelease(release.requester, {}, release.raw_data | {"url": url, "upload_url": upload_url})
    other = GitReleaseAsset(asset.requester, {}, asset.raw_data | {"url": url})
    for use in (
        lambda: client(github).upload(hostile, "x", 1, io.BytesIO(b"x")),
        lambda: client(github).publish(hostile, "", "", False, True),
        lambda: client(github).delete(other),
        lambda: client(github).download(other, tmp_path / "x"),
    ):
        with pytest.raises(GitHubError):
            use()
    with pytest.raises(GitHubError, match="not its own host"):
        client(github)._transport.send("GET", foreign_url, {}, None)
    assert seen == []


@pytest.fixture
def foreign():
    """A server that must get no request."""
    seen = []

    class Noting(Handler):
        def do_GET(self):
            seen.append(dict(self.headers))
            self.send_error(404)

        def do_POST(self):
            self.do_GET()

    with Server(Noting) as server:
        yield server.url, seen


@pytest.mark.parametrize(
    ("api", "origins", "page"),
    [
        (
            "https://api.github.com",
            {("https", "api.github.com", 443), ("https", "uploads.github.com", 443)},
            "https://github.com",
        ),
        (
            "https://api.acme.ghe.com",
            {("https", "api.acme.ghe.com", 443), ("https", "uploads.acme.ghe.com", 443)},
            "https://acme.ghe.com",
        ),
        ("https://git.acme.example/api/v3", {("https", "git.acme.example", 443)}, "https://git.acme.example"),
        ("https://api.acme.example", {("https", "api.acme.example", 443)}, "https://api.acme.example"),
        ("http://127.0.0.1:81", {("http", "127.0.0.1", 81)}, "http://127.0.0.1:81"),
    ],
)
def test_hosts_that_get_the_token(api, origins, page):
    assert own_origins(api) == origins
    assert site(api) == page


@pytest.mark.parametrize(
    ("api", "uploads"),
    [
        ("https://api.github.com", "https://uploads.github.com"),
        ("https://api.acme.ghe.com", "https://uploads.acme.ghe.com"),
        ("https://git.acme.example/api/v3", "https://git.acme.example/api/uploads"),
    ],
)
def test_uploads_go_where_the_release_says(api, uploads, monkeypatch):
    repository = GitHub("acme/pets", "secret", api)
    sent = []

    def request(method, url, headers, **options):
        sent.append((method, url))
        assert "secret" not in str(headers)  # the session adds it
        response = requests.Response()
        response.status_code, response.url = 201, url
        asset = {"id": 1, "name": "x", "state": "uploaded", "size": 1, "url": f"{api}/1"}
        response._content = json.dumps(asset | {"browser_download_url": "https://x"}).encode()
        return response

    monkeypatch.setattr(repository._transport._session, "request", request)
    path = "/repos/acme/pets/releases/1"
    named = {"url": f"{api}{path}", "upload_url": f"{uploads}{path}/assets{{?name,label}}"}
    release = GitRelease(repository.repository.requester, {}, named, completed=True)
    assert repository.upload(release, "x", 1, io.BytesIO(b"x")).id == 1
    assert sent == [("POST", f"{uploads}{path}/assets?label=&name=x")]


@pytest.mark.parametrize(
    "api", ["http://github.example", "ftp://x", "https://u:p@x", "x", "https://", "http://[::1"]
)
def test_an_api_that_would_leak_the_token_is_refused(api):
    with pytest.raises(PipelineError, match="GITHUB_API_URL must be https://"):
        GitHub("a/b", "t", api)


@pytest.mark.parametrize("name", ["", "a", "a/b/c", "a/..", "/b", "a/", "a b/c", "a/b?x", "-a/b", "a/b\n"])
def test_invalid_repositories(name):
    with pytest.raises(GitHubError, match="owner/name"):
        GitHub(name)


@pytest.mark.parametrize(
    "tag", ["", "-v1", "v1..2", "v1/2", "v 1", "v1.", "v1.lock", "v1\n", "$(x)", "v" * 101, "é"]
)
def test_invalid_tags(tag):
    with pytest.raises(GitHubError, match="not a valid tag"):
        check_tag(tag)


def test_a_token_with_a_newline_inside_is_not_shown():
    with pytest.raises(GitHubError) as error:
        GitHub("a/b", "secret\nX: y")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 502}, {"status": 503}, {}, {"phase": "after"}, {"stall_s": 2.5}]
)
def test_requests_that_read_are_repeated(github, fault):
    github.store.add("v1", FILES)
    github.hook = fail(2, **fault)
    releases = client(github, patience=replace(FAST, response_s=1.5) if "stall_s" in fault else FAST)
    assert releases.latest().tag_name == "v1"
    assert len(releases.lines) == 2
    assert all("next attempt" in line for line in releases.lines)
    github.hook = fail(3, **fault)
    with pytest.raises(UnavailableError, match="3 times"):
        releases.latest()


def test_requests_that_create_are_not_repeated(github):
    github.hook = fail(1, phase="after", status=502)
    with pytest.raises(UnsureError):
        client(github).create_draft("v1", "", "", False)
    assert len(client(github).drafts("v1")) == 1  # the first request had been carried out


def limited(headers, status=403, message="You have exceeded a secondary rate limit."):
    return {"status": status, "headers": tuple(headers.items()), "message": message}


@pytest.mark.parametrize(
    ("fault", "least"),
    [
        (limited({"Retry-After": "1"}), 1),
        (limited({"Retry-After": "1"}, 429), 1),
        (limited({"Retry-After": "DATE"}), 1),
        (limited({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "NOW"}, message="API rate limit"), 1),
        (limited({}), 0.03),
        (limited({}, 429, ""), 0.03),
    ],
)
def test_rate_limits_are_waited_for_and_any_request_repeated(github, fault, least):
    started = time.monotonic()
    date = email.utils.formatdate(time.time() + 2, usegmt=True)  # in whole seconds: at least one
    now = str(int(time.time()))
    fault["headers"] = tuple((k, v.replace("NOW", now).replace("DATE", date)) for k, v in fault["headers"])
    github.hook = fail(1, **fault)
    releases = client(github)
    releases.create_draft("v1", "", "", False)
    assert time.monotonic() - started >= least * 0.9
    assert len(releases.lines) == 1
    assert "rate limit" in releases.lines[0]
    assert len(releases.drafts("v1")) == 1


def test_an_upload_delayed_by_a_rate_limit_is_sent_from_its_start(github, tmp_path):
    releases = client(github)
    draft = releases.release(releases.create_draft("v1", "", "", False).id)
    (tmp_path / "file").write_bytes(MODEL)
    github.hook = fail(1, **limited({}))
    with (tmp_path / "file").open("rb") as file:
        asset = releases.upload(draft, "model.pt", len(MODEL), file)
    assert sha256(asset) == DIGEST


def test_a_rate_limit_longer_than_the_patience_is_an_error(github):
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 1800)}
    github.hook = fail(1, **limited(reset))
    with pytest.raises(UnavailableError, match=r"rate limit.*1[78]\d\d s to wait"):
        client(github).latest()
    github.hook = fail(1000, **limited({}))
    with pytest.raises(UnavailableError, match="rate limit"):
        client(github, patience=replace(FAST, total_s=1.5)).latest()


def test_errors_say_what_to_do(github):
    with pytest.raises(GitHubError, match=r"not accepted.*401"):
        client(github, "wrong").latest()
    with pytest.raises(GitHubError, match="contents: write"):
        client(github, f"{TOKEN}_read").create_draft("v1", "", "", False)
    github.private = True
    with pytest.raises(NotFoundError, match="not found, or the token may not see it"):
        client(github, "").latest()
    github.store.add("v1", FILES)
    releases = client(github)
    draft = releases.create_draft("v1", "", "", False)
    with pytest.raises(ExistsError, match="tag_name"):
        releases.publish(draft, "", "", False, True)
    with pytest.raises(GitHubError, match="target_commitish"):
        releases.create_draft("v2", "no-such-branch", "", False)
    github.hook = fail(1, status=301, headers=(("Location", "https://elsewhere.example"),))
    with pytest.raises(GitHubError, match="moved"):
        releases.latest()


def test_an_error_for_a_hostile_response_is_one_line_without_the_token(github):
    github.hook = fail(1, status=418, message=f"a\r\nb {TOKEN} {'x' * 1000}")
    with pytest.raises(GitHubError) as error:
        client(github).latest()
    assert "\n" not in str(error.value)
    assert TOKEN not in str(error.value)
    assert len(str(error.value)) < 500
    for body in ({"id": "1"}, {"id": 1, "tag_name": "v1"}, {"message": "x"}, [], [1], "x", 1):
        github.hook = fail(1, status=200, body=body)
        with pytest.raises(GitHubError, match=NOT_DOCUMENTED):
            client(github).latest()
        github.hook = fail(1, status=200, body=body)
        if body != []:
            with pytest.raises(GitHubError, match=NOT_DOCUMENTED):
                client(github).releases()


def test_netrc_is_not_used(github, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login person password hidden\n")
    monkeypatch.setenv("NETRC", str(netrc))
    github.store.add("v1", FILES)
    releases = client(github, "")
    asset = releases.assets(releases.latest())[0]
    releases.download(asset, tmp_path / "model.pt")
    assert {token for _, _, token in github.seen} == {""}
    assert not any("authorization" in headers for headers in github.storage_seen)


def test_a_download_is_resumed_and_checked(github, tmp_path):
    github.store.add("v1", FILES)
    releases = client(github)
    asset = releases.assets(releases.latest())[0]
    github.storage_breaks[:] = [1000, 1500]
    releases.download(asset, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == MODEL
    assert [headers.get("range") for headers in github.storage_seen] == [None, "bytes=1000-", "bytes=2500-"]
    assert not any("authorization" in headers for headers in github.storage_seen)
    github.store.assets[asset.id].data = b"x" * len(MODEL)
    with pytest.raises(GitHubError, match="SHA-256"):
        releases.download(asset, tmp_path / "model.pt")
    github.store.assets[asset.id].data = MODEL + b"x"
    with pytest.raises(GitHubError, match="larger than 9,000 bytes"):
        releases.download(asset, tmp_path / "model.pt")


@pytest.fixture
def model_url(monkeypatch, capsys):
    """Run the command; return exit code, standard output and standard error."""

    def model_url(*arguments, **environment):
        for name in ("GITHUB_REPOSITORY", "GITHUB_TOKEN", "GITHUB_API_URL"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        try:
            code = cli.run("release", "", COMMANDS, ["model-url", *arguments])
        except SystemExit as error:
            print(error.code, file=sys.stderr)
            code = 1
        return code, *capsys.readouterr()

    return model_url


def test_which_model_is_released(github, model_url):
    environment = github.environment(None)
    assert model_url(**environment) == (
        0,
        "",
        "acme/cats-vs-dogs has no release with a model.pt yet\n",
    )
    github.store.add("v1.0.0", FILES)
    github.store.add("v1.1.0", {"model.pt": b"newer"})
    for tag, digest in (("v1.0.0", DIGEST), ("v1.1.0", hashlib.sha256(b"newer").hexdigest())):
        url = f"{github.url}/acme/cats-vs-dogs/releases/download/{tag}/model.pt"
        expected = f"MODEL_URL={url}\nMODEL_SHA256={digest}\n"
        assert model_url(tag, **environment) == (0, expected, "")
    assert model_url(**environment) == (0, expected, "")
    code, output, error = model_url("v9", **environment)
    assert (code, output) == (1, "")
    assert error.startswith("error: v9:")
    code, _, error = model_url()
    assert code == 1
    assert error.startswith("error: GITHUB_REPOSITORY is not set")


def test_the_url_of_a_private_model_accepts_a_token(github, model_url):
    github.private = True
    github.store.add("v1.0.0", FILES)
    code, output, _ = model_url(**github.environment())
    assert code == 0
    url = output.split()[0].removeprefix("MODEL_URL=")
    headers = {"Accept": "application/octet-stream"}  # as the service sends it
    with_token = requests.get(url, headers=headers | {"Authorization": f"Bearer {TOKEN}"}, timeout=HANG_S)
    assert with_token.content == FILES["model.pt"]
    assert requests.get(url, headers=headers, timeout=HANG_S).status_code == 404


def test_a_release_without_a_model(github, model_url):
    release = github.store.add("v1", {"other": b"x"})
    github.store.begin(release, "model.pt")  # incomplete
    environment = github.environment(None)
    assert model_url(**environment) == (0, "", "acme/cats-vs-dogs has no release with a model.pt yet\n")
    code, output, error = model_url("v1", **environment)
    assert (code, output, error) == (1, "", "error: v1: the release has no model.pt\n")
    github.store.add("v2", FILES)
    github.store.add("v3", {"other": b"x"})
    code, output, _ = model_url(**environment)
    assert (code, f"MODEL_SHA256={DIGEST}" in output) == (0, True)
    assert "/download/v2/model.pt" in output


def test_a_url_cannot_add_a_line_to_the_workflows_output(github):
    github.store.add("v1", FILES)
    releases = client(github)
    asset = releases.model(releases.latest())
    url = {"browser_download_url": "https://x/model.pt\nMODEL_SHA256=0"}
    with pytest.raises(GitHubError, match="no valid URL"):
        variables(releases, GitReleaseAsset(asset.requester, {}, asset.raw_data | url))


def test_the_service_loads_the_released_model_through_both_redirects(github, tmp_path):
    project = make_project(tmp_path / "project")
    model = (project / "models/model.pt").read_bytes()
    digest = hashlib.sha256(model).hexdigest()
    github.store.add("v1", {"model.pt": model, "model.pt.sha256": f"{digest}  model.pt\n".encode()})
    settings = Settings(
        model_url=github.download_url("model.pt"), model_cache_dir=tmp_path / "cache", model_token="secret"
    )
    model_file = model_source.fetch(settings)
    assert model_file.path.read_bytes() == model
    assert load(model_file.path, "onnx", 1).manifest.version == "aaaaaaaaaaaa"
    assert not any("authorization" in headers for headers in github.storage_seen)
    asked = len(github.storage_seen)
    assert model_source.fetch(settings).download_seconds is None  # unchanged, so not sent again
    assert "if-none-match" in github.storage_seen[asked]
    github.store.add("v2", {"model.pt": model, "model.pt.sha256": b"0" * 64 + b"  model.pt\n"})
    with pytest.raises(model_source.ModelSourceError, match="SHA-256"):
        model_source.fetch(
            Settings(model_url=github.download_url("model.pt"), model_cache_dir=tmp_path / "new")
        )

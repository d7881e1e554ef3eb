"""The client of GitHub's releases: what it finds, waits for and refuses, and who gets the token."""

import hashlib
import http.server
import threading
import time
from dataclasses import replace

import pytest
import requests

from app import model_source
from app.engine import load
from app.settings import Settings
from ml.github.answers import ExistsError, GitHubError, NotFoundError, UnreachableError, UnsureError
from ml.github.client import GitHub, Patience
from ml.github.hosts import own_origins, pages
from ml.github.release import check_tag
from ml.releases import Releases, model_of
from tests.ml.project import make_project, run
from tests.standins import github as standin
from tests.standins.github import TOKEN, Fault
from tests.waiting import HANG_S

FAST = Patience(attempts=3, pause_s=0.01, unclear_s=0.03, total_s=HANG_S, connect_s=HANG_S, answer_s=HANG_S)
MODEL = b"the model" * 1000
DIGEST = hashlib.sha256(MODEL).hexdigest()
FILES = {"model.pt": MODEL, "model.pt.sha256": f"{DIGEST}  model.pt\n".encode()}


@pytest.fixture
def github(tmp_path):
    with standin.GitHub(tmp_path / "github").serving() as github:
        yield github


def client(github, token=TOKEN, patience=FAST, **options):
    lines = []
    made = Releases(GitHub(github.repository, token, github.url, patience, lines.append, **options))
    made.lines = lines
    return made


def fail(times, **fault):
    """A hook that lets the first requests fail at a step."""
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
    assert releases.latest().tag == "v1.1.0"
    assert releases.by_tag("v1.0.0").tag == "v1.0.0"
    assert releases.by_tag("v2.0.0") is None
    first, second = releases.drafts("v2.0.0")
    assert first.id < second.id
    for token in (f"{TOKEN}_read", ""):  # without the right to push
        assert client(github, token).drafts("v2.0.0") == []
        with pytest.raises(NotFoundError):
            client(github, token).get(first.id)


def test_lists_of_many_pages(github):
    github.page_size = 2
    for number in range(7):
        github.store.add(f"v1.0.{number}", {}, draft=True)
    release = github.store.add("v2.0.0", {f"file{number}": b"x" for number in range(5)})
    releases = client(github)
    assert len(releases.drafts("v1.0.0")) == 1
    assert len(releases.drafts("v1.0.6")) == 1
    found = releases.assets(releases.get(release.id))
    assert [asset.name for asset in found] == [f"file{number}" for number in range(5)]


def test_a_list_that_leads_elsewhere_gets_no_token(github, foreign):
    foreign_url, seen = foreign
    headers = (("Link", f'<{foreign_url}/releases?page=2>; rel="next"'), ("Content-Type", "application/json"))
    github.hook = lambda step: Fault(200, headers, message="x")
    with pytest.raises(GitHubError, match="other than a list"):
        client(github).drafts("v1")
    github.hook = lambda step: None
    release = github.store.add("v1", {}, draft=True)
    upload = (
        client(github).get(release.id).__class__(release.id, "v1", True, "", f"{foreign_url}/x{{?name}}", "")
    )
    with (tmp := github.store.folder / "x").open("wb") as file:
        file.write(b"x")
    with tmp.open("rb") as file, pytest.raises(GitHubError, match="not its own host"):
        client(github).upload(upload, "x", 1, file)
    assert seen == []


@pytest.fixture
def foreign():
    """A server that must not be asked."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(dict(self.headers))
            self.send_error(404)

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("api", "origins", "site"),
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
def test_hosts_that_get_the_token(api, origins, site):
    assert own_origins(api) == origins
    assert pages(api) == site


@pytest.mark.parametrize(
    "api", ["http://github.example", "ftp://x", "https://u:p@x", "x", "https://", "http://[::1"]
)
def test_an_api_that_would_leak_the_token_is_refused(api):
    with pytest.raises(GitHubError):
        GitHub("a/b", "t", api)


@pytest.mark.parametrize("name", ["", "a", "a/b/c", "a/..", "/b", "a/", "a b/c", "a/b?x", "-a/b", "a/b\n"])
def test_what_is_no_repository(name):
    with pytest.raises(GitHubError, match="owner/name"):
        GitHub(name)


@pytest.mark.parametrize(
    "tag", ["", "-v1", "v1..2", "v1/2", "v 1", "v1.", "v1.lock", "v1\n", "$(x)", "v" * 101, "é"]
)
def test_what_is_no_tag(tag):
    with pytest.raises(GitHubError, match="no tag"):
        check_tag(tag)


def test_a_token_with_a_newline_inside_is_not_shown():
    with pytest.raises(GitHubError) as error:
        GitHub("a/b", "secret\nX: y")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 502}, {"status": 503}, {}, {"phase": "after"}, {"stall_s": 2.5}]
)
def test_reading_is_repeated(github, fault):
    github.store.add("v1", FILES)
    github.hook = fail(2, **fault)
    releases = client(github, patience=replace(FAST, answer_s=1.5) if "stall_s" in fault else FAST)
    assert releases.latest().tag == "v1"
    assert len(releases.lines) == 2
    assert all("waiting" in line for line in releases.lines)
    github.hook = fail(3, **fault)
    with pytest.raises(UnreachableError, match="3 times"):
        releases.latest()


def test_making_is_not_repeated(github):
    github.hook = fail(1, phase="after", status=502)
    with pytest.raises(UnsureError):
        client(github).create_draft("v1", "", "", False)
    assert len(client(github).drafts("v1")) == 1  # it had been carried out


def limited(headers, status=403, message="You have exceeded a secondary rate limit."):
    return {"status": status, "headers": tuple(headers.items()), "message": message}


@pytest.mark.parametrize(
    ("fault", "least"),
    [
        (limited({"Retry-After": "1"}), 1),
        (limited({"Retry-After": "1"}, 429), 1),
        (limited({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "NOW"}, message="API rate limit"), 1),
        (limited({}), 0.03),
        (limited({}, 429, ""), 0.03),
    ],
)
def test_rate_limits_are_waited_for_even_by_what_makes_something(github, fault, least):
    fault["headers"] = tuple((k, v.replace("NOW", str(int(time.time())))) for k, v in fault["headers"])
    github.hook = fail(1, **fault)
    releases = client(github)
    started = time.monotonic()
    releases.create_draft("v1", "", "", False)
    assert time.monotonic() - started >= least * 0.9
    assert len(releases.lines) == 1
    assert "rate limit" in releases.lines[0]
    assert len(releases.drafts("v1")) == 1


def test_an_upload_that_is_put_off_is_sent_from_its_start(github, tmp_path):
    releases = client(github)
    draft = releases.get(releases.create_draft("v1", "", "", False).id)
    (tmp_path / "file").write_bytes(MODEL)
    github.hook = fail(1, **limited({}))
    with (tmp_path / "file").open("rb") as file:
        asset = releases.upload(draft, "model.pt", len(MODEL), file)
    assert asset.sha256 == DIGEST


def test_a_rate_limit_longer_than_the_patience_is_told(github):
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 1800)}
    github.hook = fail(1, **limited(reset))
    with pytest.raises(UnreachableError, match=r"rate limit.*1[78]\d\d s to wait"):
        client(github).latest()
    github.hook = fail(1000, **limited({}))
    with pytest.raises(UnreachableError, match="rate limit"):
        client(github, patience=replace(FAST, total_s=1.5)).latest()


def test_what_is_refused_says_why(github):
    with pytest.raises(GitHubError, match=r"not accepted.*401"):
        client(github, "wrong").latest()
    with pytest.raises(GitHubError, match="contents: write"):
        client(github, f"{TOKEN}_read").create_draft("v1", "", "", False)
    other = standin.GitHub(github.store.folder, repository="acme/other", private=True)
    with other.serving(), pytest.raises(NotFoundError, match="not found, or the token may not see it"):
        client(other, "").latest()
    github.store.add("v1", FILES)
    releases = client(github)
    draft = releases.create_draft("v1", "", "", False)
    with pytest.raises(ExistsError, match="tag_name"):
        releases.update(draft, draft=False)
    with pytest.raises(GitHubError, match="target_commitish"):
        releases.create_draft("v2", "no-such-branch", "", False)
    github.hook = fail(1, status=301, headers=(("Location", "https://elsewhere.example"),))
    with pytest.raises(GitHubError, match="moved"):
        releases.latest()


def test_a_hostile_answer_is_one_line_without_the_token(github):
    github.hook = fail(1, status=418, message=f"a\r\nb {TOKEN} {'x' * 1000}")
    with pytest.raises(GitHubError) as error:
        client(github).latest()
    assert "\n" not in str(error.value)
    assert TOKEN not in str(error.value)
    assert len(str(error.value)) < 500
    for body in ({"id": "1"}, {"id": 1, "tag_name": "v1"}):
        github.hook = fail(1, status=200, message="x", headers=())
        with pytest.raises(GitHubError, match="sound"):
            client(github).latest()
        assert body


def test_netrc_is_left_alone(github, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login person password hidden\n")
    monkeypatch.setenv("NETRC", str(netrc))
    github.store.add("v1", FILES)
    releases = client(github, "")
    asset = releases.assets(releases.latest())[0]
    releases.download(asset, tmp_path / "model.pt")
    assert {token for _, _, token in github.seen} == {""}
    assert not any("authorization" in headers for headers in github.storage_seen)


def test_a_download_goes_on_where_it_broke_and_is_checked(github, tmp_path):
    github.store.add("v1", FILES)
    releases = client(github)
    asset = releases.assets(releases.latest())[0]
    github.storage_breaks[:] = [1000, 1500]
    releases.download(asset, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == MODEL
    assert [headers.get("range") for headers in github.storage_seen] == [None, "bytes=1000-", "bytes=2500-"]
    assert not any("authorization" in headers for headers in github.storage_seen)
    github.store.blob(github.store.assets[asset.id]).write_bytes(b"x" * len(MODEL))
    with pytest.raises(GitHubError, match="SHA-256"):
        releases.download(asset, tmp_path / "model.pt")
    github.store.blob(github.store.assets[asset.id]).write_bytes(MODEL + b"x")
    with pytest.raises(GitHubError, match="longer"):
        releases.download(asset, tmp_path / "model.pt")
    github.store.blob(github.store.assets[asset.id]).write_bytes(MODEL[:-1])
    with pytest.raises(GitHubError, match="the API says"):
        releases.download(asset, tmp_path / "model.pt")


def test_which_model_is_released(github, tmp_path):
    environment = github.environment(None)
    assert run(tmp_path, "ml.releases", **environment) == (0, "", "acme/cats-vs-dogs has no release yet\n")
    github.store.add("v1.0.0", FILES)
    github.store.add("v1.1.0", {"model.pt": b"newer", "model.pt.sha256": b"0" * 64 + b"  model.pt\n"})
    for tag, digest in (("v1.0.0", DIGEST), ("v1.1.0", hashlib.sha256(b"newer").hexdigest())):
        url = f"{github.url}/acme/cats-vs-dogs/releases/download/{tag}/model.pt"
        expected = f"MODEL_URL={url}\nMODEL_SHA256={digest}\n"
        assert run(tmp_path, "ml.releases", tag, **environment) == (0, expected, "")
    assert run(tmp_path, "ml.releases", **environment) == (0, expected, "")
    github.digests = False  # an older server: then what the file beside it says
    code, output, _ = run(tmp_path, "ml.releases", **environment)
    assert (code, output.split()[1]) == (0, f"MODEL_SHA256={'0' * 64}")
    code, output, error = run(tmp_path, "ml.releases", "v9", **environment)
    assert (code, output) == (1, "")
    assert error.startswith("error: v9:")
    code, _, error = run(tmp_path, "ml.releases")
    assert code == 1
    assert error.startswith("error: GITHUB_REPOSITORY is not set")


def test_the_url_of_a_private_model_takes_a_token(tmp_path):
    hidden = standin.GitHub(tmp_path / "hidden", repository="acme/hidden", private=True)
    with hidden.serving():
        hidden.store.add("v1.0.0", FILES)
        code, output, _ = run(tmp_path, "ml.releases", **hidden.environment())
        assert code == 0
        url = output.split()[0].removeprefix("MODEL_URL=")
        headers = {"Accept": "application/octet-stream"}  # as the service asks
        with_token = requests.get(url, headers=headers | {"Authorization": f"Bearer {TOKEN}"}, timeout=HANG_S)
        assert with_token.content == FILES["model.pt"]
        assert requests.get(url, headers=headers, timeout=HANG_S).status_code == 404


def test_a_release_without_a_model_is_told_apart(github, tmp_path):
    release = github.store.add("v1", {"other": b"x"})
    github.store.begin(release, "model.pt", None, "application/octet-stream", 5)  # half there
    environment = github.environment(None)
    assert run(tmp_path, "ml.releases", **environment) == (0, "", "release v1 has no model.pt\n")
    code, output, error = run(tmp_path, "ml.releases", "v1", **environment)
    assert (code, output, error) == (1, "", "error: v1: release v1 has no model.pt\n")


def test_a_url_can_not_add_a_line_to_the_workflows_output(github):
    github.store.add("v1", FILES)
    github.repository = "acme/cats-vs-dogs"
    releases = client(github)
    release = releases.latest()
    asset = releases.assets(release)[0]
    hostile = asset.__class__(**{**asset.__dict__, "browser_url": "https://x/model.pt\nMODEL_SHA256=0"})
    releases.assets = lambda _: [hostile]
    with pytest.raises(GitHubError):
        model_of(releases, release)


def test_the_service_loads_what_is_released_through_both_redirects(github, tmp_path):
    project = make_project(tmp_path / "project")
    model = (project / "models/model.pt").read_bytes()
    digest = hashlib.sha256(model).hexdigest()
    github.store.add("v1", {"model.pt": model, "model.pt.sha256": f"{digest}  model.pt\n".encode()})
    settings = Settings(
        model_url=github.download_url("model.pt"), model_cache_dir=tmp_path / "cache", model_token="secret"
    )
    found = model_source.fetch(settings)
    assert found.path.read_bytes() == model
    assert load(found.path, "onnx", 1).manifest.version == "aaaaaaaaaaaa"
    assert not any("authorization" in headers for headers in github.storage_seen)
    asked = len(github.storage_seen)
    assert model_source.fetch(settings).download_seconds is None  # unchanged: asked, not sent again
    assert "if-none-match" in github.storage_seen[asked]
    github.store.add("v2", {"model.pt": model, "model.pt.sha256": b"0" * 64 + b"  model.pt\n"})
    with pytest.raises(model_source.ModelSourceError, match="SHA-256"):
        model_source.fetch(
            Settings(model_url=github.download_url("model.pt"), model_cache_dir=tmp_path / "new")
        )


def test_the_stand_in_outlives_itself(tmp_path):
    folder = tmp_path / "github"
    with standin.GitHub(folder).serving() as github:
        github.store.add("v1", FILES)
        made = client(github).create_draft("v2", "", "notes", False)
    with standin.GitHub(folder).serving() as github:
        assert client(github).latest().tag == "v1"
        assert client(github).drafts("v2")[0].id == made.id
        assert client(github).create_draft("v3", "", "", False).id > made.id

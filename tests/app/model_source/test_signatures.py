"""MODEL_PUBLIC_KEY: models without a valid signature are rejected, wherever they come from."""

import base64
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from app.model_source import source as model_source
from app.model_source.source import ModelSourceError
from app.settings import Settings
from ml.model import signature
from ml.model.partial import sha256_of
from tests.helpers.model_server import MODEL, OTHER, Answer, ModelServer, archive, get
from tests.helpers.paths import ROOT
from tests.helpers.service import fails, running

KEY, NEXT_KEY, FOREIGN_KEY = (SigningKey(bytes([seed]) * 32) for seed in (1, 2, 3))


def public(*keys: SigningKey) -> tuple[bytes, ...]:
    return tuple(bytes(key.verify_key) for key in keys)


def text(key: SigningKey) -> str:
    return base64.b64encode(bytes(key.verify_key)).decode()


def sign(content: bytes, key: SigningKey = KEY) -> bytes:
    return key.sign(hashlib.sha256(content).digest()).signature


@pytest.fixture
def signed(server: ModelServer) -> ModelServer:
    """A server with a signed model."""
    server.files["/model.pt.sig"] = base64.b64encode(sign(MODEL)) + b"\n"
    return server


def get_signed(server: ModelServer, cache: Path, *keys: SigningKey, **others: object):
    return get(server, cache, model_public_key=public(*(keys or (KEY,))), **others)


@pytest.mark.parametrize("pin", [False, True], ids=["", "pin"])
def test_a_signed_model_is_used_and_its_signature_kept(signed, cache, pin) -> None:
    pins = {"model_sha256": hashlib.sha256(MODEL).hexdigest()} if pin else {}
    assert get_signed(signed, cache, **pins).path.read_bytes() == MODEL
    assert {path.suffix for path in cache.iterdir()} == {".json", ".lock", ".pt", ".sig"}
    signed.seen.clear()
    signed.answers["/model.pt.sig"] = [Answer(503)]
    file = get_signed(signed, cache, **pins)  # from the cache, signature included
    assert (file.path.read_bytes(), file.download_seconds) == (MODEL, None)
    assert not signed.requests("/model.pt.sig")


def test_without_a_key_no_signature_is_requested(signed, cache) -> None:
    get(signed, cache)
    assert not signed.requests("/model.pt.sig")


def test_a_raw_signature_and_a_query(signed, cache) -> None:
    signed.files["/model.pt.sig"] = sign(MODEL)
    assert get_signed(signed, cache, path="/model.pt?key=hidden").path.read_bytes() == MODEL
    assert [request.path for request in signed.requests("/model.pt.sig")] == ["/model.pt.sig?key=hidden"]


BAD = {
    "missing": None,
    "empty": b"\n",
    "of another model": sign(OTHER),
    "by another key": sign(MODEL, FOREIGN_KEY),
    "one bit wrong": bytes([sign(MODEL)[0] ^ 1]) + sign(MODEL)[1:],
    "cut": sign(MODEL)[:-1],
    "no base64": b"\xff" * 88,
    "of the bytes, not of the digest": KEY.sign(MODEL).signature,
    "endless": b"A" * 100_000,
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_without_a_valid_signature_there_is_no_model(server, cache, content) -> None:
    if content is not None:
        server.files["/model.pt.sig"] = content
    with pytest.raises(ModelSourceError, match=r"signature") as caught:
        get_signed(server, cache, path="/model.pt?key=hidden")
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert not {".pt", ".sig", ".part"} & {path.suffix for path in cache.iterdir()}  # nothing is kept of it


@pytest.mark.parametrize("pin", [False, True], ids=["", "pin"])
def test_a_copy_from_a_time_without_a_key_is_checked_too(server, cache, pin) -> None:
    path = get(server, cache).path
    pins = {"model_sha256": sha256_of(path)} if pin else {}
    with pytest.raises(
        ModelSourceError, match=r"the cached copy of .*: MODEL_PUBLIC_KEY requires a signature"
    ):
        get_signed(server, cache, **pins)
    server.files["/model.pt.sig"] = sign(MODEL)
    assert get_signed(server, cache, **pins).path == path


def test_a_copy_is_not_used_if_its_signature_cannot_be_checked(server, cache) -> None:
    get(server, cache)
    server.answers["/model.pt"] = server.answers["/model.pt.sig"] = [Answer(503)]
    with pytest.raises(ModelSourceError, match=r"the signature at /model.pt.sig: .* answered 503"):
        get_signed(server, cache)


@pytest.mark.parametrize("damage", [b"", bytes(64), sign(OTHER), sign(MODEL, FOREIGN_KEY)])
def test_a_kept_signature_is_not_trusted(signed, cache, damage) -> None:
    get_signed(signed, cache)
    (kept,) = cache.glob("*.sig")
    kept.write_bytes(damage)
    assert get_signed(signed, cache).path.read_bytes() == MODEL  # by a new one from the server
    del signed.files["/model.pt.sig"]
    kept.write_bytes(damage)
    with pytest.raises(ModelSourceError, match="signature"):
        get_signed(signed, cache)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_new_model_without_a_signature_does_not_replace_a_signed_copy(
    signed, cache, caplog, status
) -> None:
    """The signature may be uploaded after the model."""
    get_signed(signed, cache)
    signed.files["/model.pt"] = OTHER
    signed.answers["/model.pt.sig"] = [Answer(status)]
    for _ in range(2):
        file = get_signed(signed, cache)
        assert (file.path.read_bytes(), file.stale) == (MODEL, True)
    assert f"a signature at /model.pt.sig, but 127.0.0.1 answered {status}; using the copy" in caplog.text
    assert not list(cache.glob("*.part"))
    signed.answers.clear()
    signed.files["/model.pt.sig"] = sign(OTHER)
    assert get_signed(signed, cache).path.read_bytes() == OTHER


def test_a_new_model_without_a_signature_does_not_make_an_unsigned_copy_usable(server, cache) -> None:
    get(server, cache)
    server.files["/model.pt"] = OTHER
    with pytest.raises(
        ModelSourceError, match=r"the cached copy of .*: MODEL_PUBLIC_KEY requires a signature"
    ):
        get_signed(server, cache)


def test_an_unsigned_model_does_not_replace_a_signed_copy(signed, cache) -> None:
    get_signed(signed, cache)
    for _ in range(3):
        signed.files["/model.pt"] = OTHER  # the server's signature is still that of MODEL
        with pytest.raises(ModelSourceError, match="not made with a key of MODEL_PUBLIC_KEY"):
            get_signed(signed, cache)
    signed.answers["/model.pt"] = [Answer(503)]
    file = get_signed(signed, cache)
    assert (file.path.read_bytes(), file.stale) == (MODEL, True)


def test_a_release_that_is_replaced_between_the_requests(signed, cache) -> None:
    def replace() -> None:
        signed.files.update({"/model.pt": OTHER, "/model.pt.sig": sign(OTHER)})

    signed.answers["/model.pt.sig"] = [Answer(before=replace), Answer()]
    assert get_signed(signed, cache).path.read_bytes() == OTHER


def test_a_key_is_replaced(signed, cache) -> None:
    get_signed(signed, cache)
    assert get_signed(signed, cache, NEXT_KEY, KEY).path.read_bytes() == MODEL
    with pytest.raises(ModelSourceError, match="MODEL_PUBLIC_KEY"):
        get_signed(signed, cache, NEXT_KEY)
    signed.files["/model.pt.sig"] = sign(MODEL, NEXT_KEY)
    assert get_signed(signed, cache, NEXT_KEY).path.read_bytes() == MODEL


def test_signatures_go_with_their_models(signed, cache) -> None:
    for seed in range(4):
        signed.files["/model.pt"] = content = archive(seed, 10_000)
        signed.files["/model.pt.sig"] = sign(content)
        get_signed(signed, cache)
    assert len(list(cache.glob("*.pt"))) == 2
    assert {path.stem for path in cache.glob("*.sig")} == {path.stem for path in cache.glob("*.pt")}


def test_a_local_file(make_model) -> None:
    path = make_model("a b.pt")
    settings = Settings(model_url=path.as_uri(), model_public_key=public(KEY))
    with pytest.raises(ModelSourceError, match=r"a b.pt.sig can't be read: No such file"):
        model_source.fetch(settings)
    beside = path.with_name("a b.pt.sig")
    beside.write_bytes(sign(b"other"))
    with pytest.raises(ModelSourceError, match="not made with a key of MODEL_PUBLIC_KEY"):
        model_source.fetch(settings)
    beside.write_bytes(sign(path.read_bytes()))
    assert model_source.fetch(settings).path == path


def test_the_embedded_model_needs_no_signature() -> None:
    assert model_source.fetch(Settings(model_public_key=public(FOREIGN_KEY))).path.is_file()


# openssl


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_makes_keys_and_signatures_that_the_service_accepts(make_model, tmp_path) -> None:
    """The commands of docs/deployment.md."""
    path, private, digest = make_model(), tmp_path / "signing-key.pem", tmp_path / "digest"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", tmp_path / "public.pem")
    openssl("dgst", "-sha256", "-binary", "-out", digest, path)
    beside = path.with_name(f"{path.name}.sig")
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", digest, "-out", beside)
    pem = (tmp_path / "public.pem").read_text()
    bare = "".join(pem.splitlines()[1:-1])
    for key in (pem, pem.replace("\n", "\\n"), pem.replace("\n", " "), bare):
        settings = Settings.from_env({"MODEL_URL": path.as_uri(), "MODEL_PUBLIC_KEY": key})
        assert model_source.fetch(settings).path == path
    made, key = signature.sign(sha256_of(path), private.read_text())
    assert base64.b64decode(made) == beside.read_bytes()
    assert signature.public_key(key) == signature.public_key(pem)


# The process


def test_the_process_starts_only_with_a_signed_model(make_model) -> None:
    path = make_model()
    env = {"MODEL_URL": path.as_uri(), "MODEL_PUBLIC_KEY": f"{text(NEXT_KEY)}, {text(KEY)}"}
    expected = (
        f"error: {path} can't be used: MODEL_PUBLIC_KEY requires a signature, but {path}.sig can't be read: "
    )
    assert fails(1, **env) == f"{expected}No such file or directory\n"
    path.with_name(f"{path.name}.sig").write_bytes(base64.b64encode(sign(path.read_bytes())))
    with running(**env) as service:
        service.wait()


def test_the_library_is_imported_only_if_it_is_needed() -> None:
    code = "import sys, app.model_source.source, app.settings; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"nacl", "cryptography", "_cffi_backend"} & set(shown.stdout.split())


def test_without_the_library_the_message_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "nacl.signing", None)
    with pytest.raises(signature.SignatureError, match="pip install pynacl"):
        signature.verify("00" * 32, bytes(64), public(KEY))

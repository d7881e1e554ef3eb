"""Settings: invalid values stop the start with one line that names the variable."""

from dataclasses import fields
from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, probable_typos


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "-1"), ("PORT", "65536"), ("PORT", "http"), ("PORT", "٣"), ("THREADS", "0"),
        ("MAX_UPLOAD_MB", "1.5"), ("MAX_UPLOAD_MB", "1e3"), ("MAX_PIXELS", "9" * 5000),
        ("ENGINE", "tensorflow"), ("LOG_FORMAT", "xml"), ("LOG_LEVEL", "loud"), ("MODEL_SHA256", "abc"),
        ("MODEL_URL", "ftp://x/model.pt"), ("MODEL_URL", "model.pt"), ("MODEL_URL", "http://"),
        ("MODEL_URL", "http://[::1/model.pt"), ("MODEL_URL", "http://host:port/model.pt"),
        ("MODEL_URL", "file://elsewhere/model.pt"), ("MODEL_TOKEN", "a\nb"), ("API_KEYS", " , "),
        ("UNKNOWN", "no"), ("CORS_ORIGINS", "a.example"), ("CORS_ORIGINS", "https://a.example/path"),
        ("CORS_ORIGINS", "javascript:alert(1)"), ("MODEL_PUBLIC_KEY", "abc"), ("MODEL_PUBLIC_KEY", ","),
        ("MODEL_PUBLIC_KEY", "A" * 43 + "=,"), ("MODEL_PUBLIC_KEY", "A" * 5000),
        ("MODEL_PUBLIC_KEY", "-----BEGIN PRIVATE KEY----- " + "A" * 43 + "= -----END PRIVATE KEY-----"),
        ("FEEDBACK_SECRET", "too short"), ("FEEDBACK_SECRET", "a secret with spaces"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"), ("TRUSTED_PROXIES", "*"),
        ("ALLOWED_IMAGE_HOSTS", ","), ("ALLOWED_IMAGE_HOSTS", "ftp://a.ex"), ("ALLOWED_IMAGE_HOSTS", "*"),
        ("ALLOWED_IMAGE_HOSTS", "*.example"), ("ALLOWED_IMAGE_HOSTS", "https://a.example/path"),
        ("ALLOWED_IMAGE_HOSTS", "u@a.example"), ("ALLOWED_IMAGE_HOSTS", "a.example:0"),
        ("ALLOWED_IMAGE_HOSTS", "a.example:99999"), ("ALLOWED_IMAGE_HOSTS", "[::x]"),
        ("ALLOWED_IMAGE_HOSTS", "a.example?"), ("ALLOWED_IMAGE_HOSTS", "9" * 5000 + "/"),
        ("ALLOWED_IMAGE_HOSTS", "bücher.example"), ("ALLOWED_IMAGE_HOSTS", "a.example."),
        ("COLLECT_TO", "ftp://host/x"), ("COLLECT_TO", "s3://"), ("COLLECT_TO", "s3://key:topsecret@bucket"),
        ("COLLECT_TO", "s3:bucket"), ("COLLECT_CONSENT", "never"), ("COLLECT_OPERATOR", "x" * 201),
        ("COLLECT_DAYS", "0"), ("COLLECT_UNSURE", "1.1"), ("COLLECT_UNSURE", "80%"),
        ("COLLECT_RANDOM", "-0.1"), ("COLLECT_RANDOM", "nan"), ("COLLECT_RANDOM", "1e-3"),
        ("COLLECT_RANDOM", "."),
        ("COLLECT_PHOTOS_PER_DAY", "0"), ("COLLECT_MB_PER_DAY", "0.5"), ("COLLECT_PHOTOS_PER_CLIENT", "0"),
        ("DEPLOYMENT", "a_b"), ("DEPLOYMENT", "a" * 64),
        ("TRUSTED_PROXIES", "proxy.example"), ("TRUSTED_PROXIES", ","), ("TRUSTED_PROXIES", "9" * 5000),
    ],
)  # fmt: skip
def test_bad_values(name, value):
    with pytest.raises(SettingsError, match=name) as caught:
        Settings.from_env({name: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_good_values():
    settings = Settings.from_env(
        {"PORT": "80", "API_KEYS": " a, b ,", "MODEL_SHA256": "AB" * 32, "LOG_LEVEL": "DEBUG", "OTHER": "x"}
        | {"CORS_ORIGINS": "https://A.example, https://b:443,http://c:80, http://d:443, *"}
        | {"MODEL_PUBLIC_KEY": "A" * 43 + "=," + "B" * 42 + "A="}
        | {"FEEDBACK_SECRET": "A+/b" * 10 + "==", "DEPLOYMENT": "5f2a01bc-9d3e"}
        | {"TRUSTED_PROXIES": "10.0.0.0/8, fd00::/8, ::ffff:192.0.2.1"}
        | {"ALLOWED_IMAGE_HOSTS": "A.example, http://b.example, c.ex:8443,https://[0::1]:1, 127.0.0.1:80"}
    )
    assert settings.port == 80
    assert settings.api_keys == ("a", "b")
    assert settings.model_sha256 == "ab" * 32
    assert [len(key) for key in settings.model_public_key] == [32, 32]
    assert settings.log_level == "debug"
    assert settings.cors_origins == ("https://a.example", "https://b", "http://c", "http://d:443", "*")
    assert settings.feedback_secret == "A+/b" * 10 + "=="  # as Render makes it
    assert list(map(str, settings.trusted_proxies)) == ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]
    assert settings.allowed_image_hosts == (
        ("https", "a.example", 443), ("http", "b.example", 80), ("https", "c.ex", 8443),
        ("https", "::1", 1), ("https", "127.0.0.1", 80),
    )  # fmt: skip
    collecting = Settings.from_env(
        {"COLLECT_TO": "s3://photos/live", "COLLECT_CONSENT": "Always", "COLLECT_UNSURE": ".75"}
        | {"COLLECT_RANDOM": "1", "COLLECT_OPERATOR": "Ada Müller, ada@example.org"}
    )
    assert (collecting.collect_to, collecting.collect_consent) == ("s3://photos/live", "always")
    assert (collecting.collect_unsure, collecting.collect_random) == (0.75, 1.0)
    assert Settings.from_env({"COLLECT_TO": "/srv/photos"}).collect_to == "/srv/photos"
    assert settings.deployment == "5f2a01bc-9d3e"
    assert settings.unknown
    assert not Settings.from_env({"UNKNOWN": "Off"}).unknown


def test_an_empty_variable_counts_as_unset():
    names = [field.name.upper() for field in fields(Settings)]
    assert Settings.from_env(dict.fromkeys(names, " ")) == Settings()


def test_the_cache_follows_the_user():
    assert Settings.from_env({"HOME": "/h"}).model_cache_dir == Path("/h/.cache/cats-vs-dogs")
    assert Settings.from_env({"LOCALAPPDATA": "/l"}).model_cache_dir == Path("/l/cats-vs-dogs")
    xdg = {"HOME": "/h", "XDG_CACHE_HOME": "/x"}
    assert Settings.from_env(xdg).model_cache_dir == Path("/x/cats-vs-dogs")
    assert Settings.from_env({"TMPDIR": "/t"}).model_cache_dir == Path("/t/cats-vs-dogs")
    assert Settings.from_env(xdg | {"MODEL_CACHE_DIR": "/m"}).model_cache_dir == Path("/m")


def test_secrets_are_not_shown():
    secret = dict.fromkeys(("API_KEYS", "MODEL_TOKEN", "FEEDBACK_SECRET"), "topsecret" * 2)
    secret["MODEL_URL"] = "https://u:topsecret@h/m?topsecret"
    assert "topsecret" not in repr(Settings.from_env(secret))
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"MODEL_URL": "ftp://u:topsecret@h/m"})
    assert "topsecret" not in str(caught.value)


def test_a_setting_says_what_it_means_and_which_values_it_takes():
    for setting in fields(Settings):
        assert setting.metadata["meaning"].endswith(".")
        assert setting.metadata["parser"].values


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("UNKWON", "UNKNOWN"), ("MAX_PIXEL", "MAX_PIXELS"), ("LOGLEVEL", "LOG_LEVEL"),
        ("API_KEY", "API_KEYS"), ("CORS_ORIGIN", "CORS_ORIGINS"), ("max_queue", "MAX_QUEUE"),
        ("METRIC_TOKEN", "METRICS_TOKEN"),
    ],
)  # fmt: skip
def test_a_misspelt_setting_is_detected_unless_the_right_one_is_set(name, setting):
    assert probable_typos({name: "secret", "PATH": "/bin"}) == {name: setting}
    assert probable_typos({name: "secret", setting: "x"}) == {}


OTHERS = """
PATH HOME LANG LC_ALL LOGNAME HOSTNAME HOSTS PORTS TERM TMPDIR TZ USER SHELL PWD EDITOR DISPLAY http_proxy
OMP_NUM_THREADS MLFLOW_TRACKING_URI GCP_REGION KUBERNETES_SERVICE_PORT KUBERNETES_PORT_443_TCP_ADDR
RENDER_SERVICE_ID CLOUD_RUN_SERVICE K_SERVICE PYTHONUNBUFFERED PYTHON_VERSION GPG_KEY XDG_CACHE_HOME LS_COLORS
LOG_FILE MODEL_NAME MODEL_PATH LOG_DIR MAX_RETRIES DOCKER_HOST GITHUB_TOKEN SSH_AUTH_SOCK
"""


def test_variables_of_other_programs_are_no_typos():
    assert probable_typos(dict.fromkeys(OTHERS.split(), "x")) == {}
    names = [field.name.upper() for field in fields(Settings)]
    assert probable_typos(dict.fromkeys(names, "")) == {}

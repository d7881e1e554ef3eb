"""Security headers and CORS."""


def test_every_response_has_the_headers(client):
    for answer in (client.get("/health"), client.get("/nothing"), client.post("/predict")):
        policy = answer.headers["Content-Security-Policy"]
        assert policy == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Permissions-Policy"] == "camera=(), geolocation=(), microphone=()"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_only_listed_origins_may_call(make_app):
    client = make_app(cors_origins=("https://pets.example",), api_keys=("key",)).test_client()
    wanted = "content-encoding, inference-header-content-length, traceparent, tracestate, x-api-key"
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": wanted}
    good = client.options("/predict", headers={"Origin": "https://pets.example", **ask})
    assert good.status_code == 200
    assert good.headers["Access-Control-Allow-Origin"] == "https://pets.example"
    assert good.headers["Access-Control-Allow-Headers"].lower() == wanted
    bad = client.options("/predict", headers={"Origin": "https://evil.example", **ask})
    assert "Access-Control-Allow-Origin" not in bad.headers
    refused = client.post("/predict", headers={"Origin": "https://pets.example"})
    assert refused.status_code == 401  # and the page may read why
    assert refused.headers["Access-Control-Allow-Origin"] == "https://pets.example"
    readable = "Inference-Header-Content-Length, Retry-After, X-Request-ID"
    assert refused.headers["Access-Control-Expose-Headers"] == readable

"""The service: photos in over HTTP, labels out."""

import os

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from app.settings import Settings

# When NumPy is imported, which comes later, it would start a thread per CPU for products of matrices. The
# service computes none with it, and these threads spin before they sleep: a fifth of the CPU time of a start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def create_app(settings: Settings) -> Flask:
    """Build the service. Its model isn't loaded yet: `service_of(app).model.load()` does that.

    Args:
        settings: how the service runs.

    Returns:
        The WSGI application.
    """
    # Imported here, so that importing the package, for its settings for instance, costs little.
    from app.http import problems, security
    from app.routes import docs, feedback, open_inference, operations, page, predict
    from app.service import Service
    from app.telemetry import requests

    app = Flask(__name__, static_folder=None)  # app.routes.page serves static/
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes
    assert isinstance(app.json, DefaultJSONProvider)
    app.json.sort_keys = False  # keep the model's order of classes
    app.url_map.merge_slashes = False  # werkzeug would redirect, with an HTML page

    app.extensions["service"] = service = Service(settings)
    requests.register(app, service.metrics)
    security.register(app, settings)
    problems.register(app)
    for module in (operations, predict, open_inference, feedback, page, docs):
        app.register_blueprint(module.blueprint)
    return app

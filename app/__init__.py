"""The service: photos in over HTTP, labels out."""

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from app.settings import Settings


def create_app(settings: Settings) -> Flask:
    """Build the service. Its model is not loaded yet: `app.extensions["model"].load()` does that.

    Args:
        settings: how it runs.

    Returns:
        The WSGI application.
    """
    # Not at the top: importing the package, for its settings say, then costs nothing.
    from app import api_docs, feedback, operations, page, predict, problems, security, telemetry
    from app.admission import Admission, Task
    from app.metrics import Metrics
    from app.model import Model

    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes
    assert isinstance(app.json, DefaultJSONProvider)
    app.json.sort_keys = False  # classes keep the model's order
    app.url_map.merge_slashes = False  # werkzeug would redirect, with a page of HTML

    metrics = Metrics()
    model = Model(settings, metrics)
    app.extensions["model"] = model
    app.extensions["metrics"] = metrics
    admission: Admission[Task] = Admission(
        settings.max_concurrency, settings.max_queue, settings.request_timeout_s
    )
    app.extensions["admission"] = admission
    metrics.watch(admission)

    telemetry.register(app, metrics)
    security.register(app, settings)
    problems.register(app)
    app.register_blueprint(operations.blueprint(settings, model, metrics, admission))
    app.register_blueprint(predict.blueprint(settings, model, metrics))
    app.register_blueprint(feedback.blueprint(settings, model, metrics))
    app.register_blueprint(page.blueprint(settings))
    app.register_blueprint(api_docs.blueprint(settings, model))
    return app

"""The pages of MLflow, the service and Prometheus, in front of the camera."""

from urllib.parse import quote

from playwright.sync_api import expect

from scripts.common.process import free_port
from scripts.filming.background import background
from scripts.filming.camera import Camera
from scripts.rehearsing.rehearsal import ROOT, Rehearsal

CAT, DUCK = (ROOT / "tests" / "photos" / name for name in ("cat.jpg", "other/duck.jpg"))
_PER_LABEL = "sum by (label) (rate(predictions_total[10s]))"
_PER_STATUS = "sum by (status) (rate(http_requests_total[10s]))"


def show_mlflow(rehearsal: Rehearsal, camera: Camera) -> None:
    """Show the last run and the registered model on MLflow's pages."""
    from mlflow import MlflowClient

    store, url = rehearsal.env["MLFLOW_TRACKING_URI"], f"http://127.0.0.1:{free_port()}"
    client = MlflowClient(store)
    experiment = next(
        each.experiment_id for each in client.search_experiments() if each.name == "cats-vs-dogs"
    )
    run = client.search_runs([experiment], order_by=["attributes.start_time DESC"])[0].info.run_id
    server = f"mlflow ui --backend-store-uri {store} --port {url.rpartition(':')[2]} --workers 1".split()
    with background(rehearsal, camera, *server, ready=f"{url}/health"):
        for path, text, caption in (
            (f"experiments/{experiment}/runs/{run}", "test_accuracy", "MLflow: metrics of the training run"),
            ("models/cats-vs-dogs", "champion", "MLflow's registry: this version is the champion"),
        ):
            with camera.paused():
                camera.page.goto(f"{url}/#/{path}")
                camera.page.get_by_text(text).first.wait_for(timeout=120_000)
                camera.hold(2)
            camera.caption(caption)
            camera.hold(5)


def show_service(rehearsal: Rehearsal, camera: Camera) -> None:
    """Classify two photos on the service's page, and show the evidence."""
    page, answers = camera.page, camera.page.locator(".photo .label:visible")
    page.goto(rehearsal.url)
    camera.caption("The page of the service that was just deployed")
    camera.hold(2)
    page.locator("#files").set_input_files(CAT)
    expect(answers).to_have_count(1, timeout=20_000)
    page.mouse.wheel(0, 200)
    camera.caption("A photo of a cat, and the answer of the released model")
    camera.hold(3)
    page.screencast.show_actions(cursor="pointer", style={"title": "display: none"})
    page.locator(".photo .frame").first.hover()
    camera.caption("With the mouse over the photo, the page shows the evidence for the answer")
    camera.hold(4)
    page.screencast.hide_actions()
    camera.picture("recording.png", play_button=True)
    page.locator("#files").set_input_files(DUCK)
    expect(answers).to_have_count(2, timeout=20_000)
    camera.caption("A duck is neither a cat nor a dog")
    camera.hold(4)


def show_prometheus(rehearsal: Rehearsal, camera: Camera) -> None:
    """Send traffic to the service, and show on Prometheus' own page what it measures."""
    folder, host = rehearsal.folder / "prometheus", f"127.0.0.1:{free_port()}"
    folder.mkdir()
    job = f"{{job_name: cats-vs-dogs, static_configs: [{{targets: ['{rehearsal.url[7:]}']}}]}}"
    (folder / "config.yml").write_text(f"global: {{scrape_interval: 1s}}\nscrape_configs: [{job}]\n", "utf-8")
    options = (
        f"--config.file={folder}/config.yml",
        f"--storage.tsdb.path={folder}",
        f"--web.listen-address={host}",
    )
    traffic = ["python", "-m", "scripts.traffic", rehearsal.url, str(rehearsal.folder / "photos-v1.0.0")]
    traffic += ["--seconds", "inf", "--mode"]
    with background(rehearsal, camera, "prometheus", *options, ready=f"http://{host}/-/ready"):
        for mode, query, caption in (
            (["normal"], _PER_LABEL, "Prometheus: 20 photos of cats and dogs per second"),
            (
                ["other", "--other", str(DUCK.parent)],
                _PER_LABEL,
                "Then photos of ducks: the service answers unknown",
            ),
            (["bad"], _PER_STATUS, "Then broken files: the service answers 4xx, never 5xx"),
        ):
            with camera.paused(), background(rehearsal, camera, *traffic, *mode):
                camera.hold(20)
                graph = f"g0.expr={quote(query)}&g0.tab=0&g0.range_input=1m&g0.step_input=1"
                camera.page.goto(f"http://{host}/graph?{graph}")
                camera.page.evaluate("document.body.style.zoom = 0.75")
                camera.hold(2)
            camera.caption(caption)
            camera.hold(5)

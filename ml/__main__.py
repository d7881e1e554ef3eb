"""`python -m ml COMMAND`: the training pipeline and its tools."""

import sys

from ml.cli import run

COMMANDS = {
    "ingest": ("ml.data.ingest", "copy photos from a folder, .zip or URL to data/raw"),
    "prepare": ("ml.data.prepare", "decode and split the photos into data/processed"),
    "share": ("ml.data.share", "copy the prepared photos to an object store, for training on many machines"),
    "train": ("ml.training.train", "train the network on the prepared photos"),
    "evaluate": ("ml.evaluation.evaluate", "measure the network on the test split"),
    "package": ("ml.packaging.package", "write models/model.pt with its ONNX model and model card"),
    "register": ("ml.registry.register", "register models/model.pt in MLflow; promote it if it is better"),
    "audit": ("ml.audit.audit", "find wrong labels, and correct them on a page"),
    "collected": ("ml.collected.command", "show and delete the photos that the service kept"),
    "review": ("ml.review.review", "decide, on a page, what the collected photos show"),
    "stability": ("ml.packaging.stability", "measure how often small changes of a photo change its label"),
    "report": ("ml.reporting.report", "write reports/report.html, the results of all stages on one page"),
    "params": ("ml.set_params", "check params.yaml, or set values in it"),
    "predict": ("ml.predict", "classify photos on this machine, without a service"),
    "score": ("ml.scoring.score", "classify a bucket or folder of photos into a Parquet dataset"),
}

if __name__ == "__main__":
    sys.exit(run("ml", "Train, measure, package and use an image classifier.", COMMANDS))

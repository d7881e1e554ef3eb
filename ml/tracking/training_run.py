"""The MLflow run of a training: parameters, metrics of each epoch, and the data."""

from collections.abc import Mapping, Sequence

import mlflow

from ml.data.dataset import Dataset
from ml.params import Params
from ml.paths import PREPARE_REPORT
from ml.tracking.provenance import dataset_md5, flatten, git_commit
from ml.tracking.store import tracked


def log_training(
    params: Params,
    data: Dataset,
    history: Sequence[Mapping[str, float]],
    choices: Sequence[Mapping[str, float]],
) -> str:
    """Log a training as a new MLflow run; return the id of the run.

    Args:
        params: all parameters; of the recipes, only the one that was used is logged.
        data: the prepared photos.
        history: metrics of each epoch, which has its number in `epoch`.
        choices: weight averages that were tried, best first, with their `val_loss`.
    """
    with tracked(params.tracking) as run_id:
        used = params.model_dump(exclude={"tracking", "recipes"}) | {"recipe": params.recipe.model_dump()}
        mlflow.log_params(flatten(used))
        mlflow.set_tags(
            {
                "git_commit": git_commit(),
                "dataset_md5": dataset_md5(),
                "test_digest": data.digest("test"),
                "classes": ",".join(data.classes),
            }
        )
        for epoch in history:
            metrics = {name: value for name, value in epoch.items() if name != "epoch"}
            mlflow.log_metrics(metrics, step=int(epoch["epoch"]))
        mlflow.log_metric("refined_val_loss", choices[0]["val_loss"])
        mlflow.log_dict({"tried": list(choices)}, "choices.json")
        if PREPARE_REPORT.is_dir():
            mlflow.log_artifacts(str(PREPARE_REPORT), PREPARE_REPORT.name)
        return run_id

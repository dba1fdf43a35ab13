"""The stages by name, in the order in which they depend on each other; the same names as in dvc.yaml."""

from collections.abc import Callable, Mapping
from importlib import import_module

from steps.params import Params

STAGES: Mapping[str, str] = {
    "fetch_bdd100k": "steps.fetch",
    "fetch_ivslab": "steps.fetch",
    "subsample_ivslab": "steps.subsample_ivslab",
    "prepare_bdd100k": "steps.prepare",
    "prepare_ivslab": "steps.prepare",
    "class_weights": "steps.class_weights",
    "train_teacher": "steps.training",
    "pseudo_label": "steps.pseudo_label",
    "distill_student": "steps.training",
    "evaluate": "steps.evaluate",
    "export": "steps.export",
    "bench": "steps.bench",
    "report": "steps.report",
    "register": "steps.register",
}


def load_stage(name: str) -> Callable[[Params], None]:
    """The function of a stage; imported only now, so that no stage waits for the libraries of another."""
    function: Callable[[Params], None] = getattr(import_module(STAGES[name]), name)
    return function

"""The task of a published checkpoint: what its config calls `problem_type`, as transformers does.

transformers decides by it how a model is trained and what its outputs are: a softmax over exclusive classes, a sigmoid
per class, or the number itself.
"""

from collections.abc import Mapping
from typing import Any

from vitral.base.errors import StoreError
from vitral.base.record import Task, parse_task

KEY = "problem_type"
TASKS: dict[str, Task] = {
    "single_label_classification": "one class",
    "multi_label_classification": "several classes",
    "regression": "numbers",
}


def problem_type(task: Task) -> str:
    """What transformers calls a task."""
    return next(word for word, known in TASKS.items() if known == task)


def task_of_config(config: Mapping[str, Any], outputs: int, requested: str | None) -> tuple[Task, tuple[str, ...]]:
    """The task of a model with so many outputs, and what was assumed for it, in words.

    In this order: as requested, as the config states, numbers for a single output (as transformers does), one class of
    many. Raises `StoreError` for a `problem_type` that is not transformers', `ConfigError` for an unknown request.
    """
    stated = config.get(KEY)
    if stated is not None and stated not in TASKS:
        raise StoreError(f"config.json has {KEY}={stated!r}; supported: {', '.join(TASKS)}.")
    if requested is not None:
        task = parse_task(requested)
        if stated is not None and TASKS[stated] != task:
            return task, (f"the task is {task!r}, as specified; config.json has {KEY}={stated!r}",)
        return task, ()
    if stated is not None:
        return TASKS[stated], ()
    if outputs == 1:
        nothing = f"config.json does not state {KEY}" if config else "no config states the task"
        return "numbers", (
            f"the one output is a number: {nothing}, and transformers takes one output as regression; if it is the "
            "logit of a class, specify task=several_classes",
        )
    return "one class", ()

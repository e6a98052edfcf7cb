"""Predict images: the most likely classes of each with their probabilities, or the numbers that the model predicts."""

from dataclasses import dataclass
from typing import Annotated, Any

from vitral.base.config import Option
from vitral.base.console import print_result
from vitral.cli._options import Code, Images, Json, Model, arguments
from vitral.data import OnBadImage


@dataclass(frozen=True)
class Options:
    model: Model
    images: Images
    top: Annotated[int, Option("Number of classes to print per image.", low=1, high=1000)] = 3
    on_bad_image: OnBadImage = "fail"
    code: Code = None
    json: Json = False


def run(options: Options) -> dict[str, Any]:
    from vitral.tasks.predict import predict

    found = predict(**arguments(options, "top"), progress=True)
    for one in found:
        print_result(f"{one.image}: {one.text(options.top)}")
    answers = [one.to_json(options.top) for one in found]
    return {"task": found.task, "predictions": answers, **found.training_images}

"""A study on the reader's own images, or with the reader's own model beside its arms."""

from dataclasses import replace
from pathlib import Path

from vitral.base.errors import ConfigError
from vitral.studies.study import Arm, Study, studies

YOURS = "yours"


def with_custom_inputs(study: Study, data: Path | None, model: str | None) -> Study:
    """The study with a folder of images instead of its synthetic ones, and with `file.py:Name` as a further arm.

    The required accuracy was set for the study's own images, so it is dropped for others. Raises `ConfigError` for a
    study whose measures need to know how its images were generated.
    """
    if model is not None:
        own = Arm(YOURS, model, unmatched="it is your own")
        conditions = tuple(replace(one, arms=(*one.arms, YOURS) if one.arms else ()) for one in study.conditions)
        study = replace(study, arms=(*study.arms, own), conditions=conditions)
    if data is not None:
        if not study.own_data:
            accepting = ", ".join(name for name, one in studies().items() if one.own_data)
            raise ConfigError(
                f"{study.name} needs synthetic images, because its measures depend on how the images were generated. "
                f"Leave --data out, or choose a study that accepts any images: {accepting}."
            )
        conditions = tuple(replace(one, data=str(data)) for one in study.conditions)
        study = replace(study, conditions=conditions, reference=None)
    return study

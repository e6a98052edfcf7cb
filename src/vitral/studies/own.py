"""The reader's own data or model in a study's place."""

from dataclasses import replace
from pathlib import Path

from vitral.base.errors import ConfigError
from vitral.studies.study import Arm, Study

YOURS = "yours"


def asked(study: Study, data: Path | None, model: str | None) -> Study:
    """The study with a folder of images instead of its drawn ones, and `file.py:Name` beside its arms.

    What the reference must have reached was said of the study's own images, so nothing is asked of it on others.
    Raises `ConfigError` for a study that needs to know what its images were drawn from.
    """
    if model is not None:
        own = Arm(YOURS, model, unmatched="it is your own")
        conditions = tuple(replace(one, arms=(*one.arms, YOURS) if one.arms else ()) for one in study.conditions)
        study = replace(study, arms=(*study.arms, own), conditions=conditions)
    if data is not None:
        if not study.own_data:
            raise ConfigError(
                f"{study.name} asks what only drawn images can answer, since it must know what they were drawn from: "
                "leave --data out, or name a study that takes any images."
            )
        study = replace(study, conditions=tuple(replace(one, data=str(data)) for one in study.conditions), regime=None)
    return study

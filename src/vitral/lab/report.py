"""The result of a check: written by the process that runs the reader's file, read by the one that prints it."""

import json
from dataclasses import asdict, dataclass, field

STAGES = ("file", "contract", "properties", "comparison", "integration")


@dataclass
class Report:
    """The first stage that failed and why; `failed` is empty if the answer passed."""

    failed: str = ""
    message: str = ""
    difference: str = ""  # both sides around the first place where they differ
    mistake: str = ""  # the name of the mistake that was recognised
    question: str = ""
    same_in_model: list[str] = field(default_factory=list)  # what agrees with Vitral's part in a trained model
    prediction: str = ""  # the letter in the reader's file
    output: str = ""  # what the reader's file printed

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Report":
        return Report(**json.loads(text))

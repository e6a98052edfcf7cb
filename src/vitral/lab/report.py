"""What a check found: made in the process that runs the reader's file, read in the one that tells of it."""

import json
from dataclasses import asdict, dataclass, field

STAGES = ("file", "contract", "properties", "comparison", "transplant")


@dataclass
class Report:
    """`failed` is the first stage that failed, or empty. `numbers` are both sides where they first differ."""

    failed: str = ""
    said: str = ""
    numbers: str = ""
    mistake: str = ""
    question: str = ""
    transplanted: list[str] = field(default_factory=list)
    predicted: str = ""  # the letter in the reader's file
    printed: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Report":
        return Report(**json.loads(text))

"""Why PyTorch's exporter does not take a model, in words: the part, and what would be taken.

The exporter raises a chain of errors whose messages are written for its own developers. Two causes are known by their
text, an answer that depends on values and an operator without a counterpart; of another the exporter's own last words
are given.
"""

import re

VALUES = "data-dependent"
CALL = re.compile(r'raised this error:\s*File "(?P<file>[^"]+)", line (?P<line>\d+)[^\n]*\n\s*(?P<code>[^\n]+)')
OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='(?P<name>[^']+)'")
IN_PYTORCH = "To run the model as it is, stay in PyTorch: `vitral bench` measures its ways."


def why_refused(error: BaseException) -> str:
    """One or two sentences on the cause of an exporter's error."""
    whole = "\n".join(map(str, chain(error)))
    if found := OPERATOR.search(whole):
        return (
            f"ONNX has nothing for the operator {found['name']}. Write that part of the model with other operators. "
            f"{IN_PYTORCH}"
        )
    if VALUES in whole:
        call = CALL.search(whole)
        place = f"`{call['code']}` ({call['file']}, line {call['line']})" if call else "its code"
        return (
            f"{place} goes another way for other images, and a graph has one way only. Write it without the branch, "
            f"such as with torch.where. {IN_PYTORCH}"
        )
    last = chain(error)[-1]
    words = next((line.strip() for line in str(last).splitlines() if line.strip()), type(last).__name__)
    return f"{words.rstrip('.')}. {IN_PYTORCH}"


def chain(error: BaseException) -> list[BaseException]:
    """An error and its causes, the first cause last."""
    found = [error]
    while (cause := found[-1].__cause__) is not None and cause not in found:
        found.append(cause)
    return found

"""Lines of a model's code, written as "blocks.0.attn, line 12 of vit.py"."""


def are_beside(place: str, other: str) -> bool:
    """Whether two lines are of one module, or of a module and its part: blocks.0.attn and blocks.0.attn.softmax."""
    names = [module_in(text) for text in (place, other)]
    parents = [name.rpartition(".")[0] or name for name in names]
    return names[0] == names[1] or names[0] == parents[1] or parents[0] == names[1] or parents[0] == parents[1]


def module_in(place: str) -> str:
    """The module of a line, as in "blocks.0.attn, line 12 of vit.py"."""
    return place.partition(", line ")[0]

"""A number and a noun, in the singular or the plural."""


def one_or_many(count: int, noun: str) -> str:
    """
    >>> one_or_many(1, "image"), one_or_many(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"

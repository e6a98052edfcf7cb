"""`photo_strong`: the crops and mirroring of `photo`, then `trivial_augment` and `erasing`.

For photographs, where a longer training with few images would otherwise learn them by heart. It takes more epochs.
"""

from vitral.data.augment import Chain
from vitral.data.augmentation.erasing import erasing
from vitral.data.augmentation.photo import photo
from vitral.data.augmentation.trivial_augment import trivial_augment

photo_strong = Chain((*photo.parts, trivial_augment, erasing))

"""`photo_strong`: the crops and mirroring of `photo`, then `trivial_augment` and `erasing`.

For photographs, few of them and many epochs. In 60 epochs on 490 pictures it was not better than `photo` (docs/log.md).
"""

from vitral.data.augment import Chain
from vitral.data.augmentation.erasing import erasing
from vitral.data.augmentation.photo import photo
from vitral.data.augmentation.trivial_augment import trivial_augment

photo_strong = Chain((*photo.parts, trivial_augment, erasing))

"""`photo`: random crops of 35 to 100 % of the area, mirrored half of the time (Szegedy et al. 2015, §6).

For photographs. Not for images whose class depends on left and right, such as letters.
"""

from vitral.data.augment import Chain
from vitral.data.augmentation.horizontal_flip import horizontal_flip
from vitral.data.operations.crop import RandomResizedCrop

photo = Chain((RandomResizedCrop(scale=(0.35, 1.0)), horizontal_flip))

"""`crop`: random crops of 8 to 100 % of the area, resized to the images' size (Szegedy et al. 2015, §6).

The usual crop for large sets such as ImageNet. On a small set, `photo` cuts less off.
"""

from vitral.data.operations.crop import RandomResizedCrop

crop = RandomResizedCrop(scale=(0.08, 1.0))

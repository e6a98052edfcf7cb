"""Operations on batches of images as bytes, of which `data/augmentation` is made."""

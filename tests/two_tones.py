"""Whether a mask still marks the object, in images of two tones, however their colours were changed."""

CLEAR = 12  # grey levels of 255 between object and background, below which nothing can be told apart


def agreement(images, masks):
    """For each image in which both tones are there: the share of pixels whose own tone is that which the mask says.

    `images` are (b, 3, y, x) from 0 to 255, and `masks` are (b, y, x) booleans.
    """
    found = []
    for image, mask in zip(images.float().mean(dim=1), masks):
        if mask.all() or not mask.any():
            continue
        tones = image[mask].median(), image[~mask].median()
        if abs(tones[0] - tones[1]) > CLEAR:
            nearer = (image - tones[0]).abs() < (image - tones[1]).abs()
            found.append(float((nearer == mask).float().mean()))
    return found

"""Why the tokens of a layer have no places: each function raises `UsageError` with the cause and the way out.

A `Layer` keeps one of these functions in place of the roles of its tokens, and calls it when somebody asks for them.
"""

from vitral.base.errors import UsageError
from vitral.recording.places import Places
from vitral.recording.token_roles import TokenRoles


def refuse_groups(layer: str, count: int, batch: int) -> TokenRoles:
    """Raises `UsageError`: the places of these tokens in the image are not known."""
    if count < batch:
        raise UsageError(
            f"{layer} attends over {count} {'sequence' if count == 1 else 'sequences'} for a batch of {batch} images, "
            "as when images leave the batch on the way (early exits), or several images, or views of different sizes, "
            "are packed into one sequence, which has no single grid of patches. Call the model, or the encoder in it, "
            "on one image at a time, not packed."
        )
    raise UsageError(
        f"{layer} attends over {count} sequences for a batch of {batch} images, and these are not windows of an "
        "earlier feature map. The places of its tokens are unknown, so it has no attention map. Choose other "
        "layers: layers=[...]; or try occlusion with grid=(rows, columns), which needs no places."
    )


def refuse_unsettled(layer: str, num_keys: int) -> TokenRoles:
    """Raises `UsageError`: changing patches of the image did not show what the tokens stand for."""
    raise UsageError(
        f"{layer} attends to {num_keys} tokens whose places in the image are not known: when patches of an image were "
        "changed, no grid of patches explained which tokens changed. They may be channels, latents or experts, be "
        "chosen depending on the image, or each hold parts of several patches, as after a reshape that mixes axes. So "
        "it has no attention map. If the last tokens are the patches, row by row, set model.num_prefix_tokens = ... "
        "(how many tokens come before them) and model.grid = (rows, columns)."
    )


def refuse_unmeasured(layer: str, num_keys: int) -> TokenRoles:
    """Raises `UsageError`: there were no images whose patches could be changed."""
    raise UsageError(
        f"{layer} attends to {num_keys} tokens whose places in the image are not known: they are measured only when "
        "the model itself, not a part or a method of it, is called with images, a float tensor (B, C, H, W). "
        "Otherwise, if the last tokens are the patches, row by row, specify how many tokens come before them: "
        "num_prefix_tokens=..."
    )


def refuse_views(layer: str) -> TokenRoles:
    """Raises `UsageError`: a patch stands in several groups of tokens, which are views of the image and no windows."""
    raise UsageError(
        f"{layer} attends to the same patches in several groups of tokens per image, as when the model puts views of "
        "an image (mirrored, cropped, one per channel) into the batch, or runs several models at once. So it has no "
        "single attention map. Watch a model that takes one view, and give it the views one by one."
    )


def refuse_window_tokens(layer: str, windows: int, others: int) -> TokenRoles:
    """Raises `UsageError`: each window has tokens of its own, from which the prediction may be read, as a messenger
    (Fang et al. 2022, "MSG-Transformer", §3.1)."""
    tokens = "a token that holds" if others == 1 else f"{others} tokens that hold"
    raise UsageError(
        f"{layer} attends within {windows} windows, each with {tokens} no patch and no padding: a messenger, class, "
        "register or prompt token. Whether the prediction is read from these is not known, so there is no attention "
        "map. Use grad_cam or occlusion, or choose other layers: layers=[...]."
    )


def refuse_batch_size(layer: str, batch: int) -> TokenRoles:
    """Raises `UsageError`: the model attends image by image, so the images of a batch are not told apart."""
    raise UsageError(
        f"{layer} attends to one image after another, or to a part of the batch at a time, so its heads and the "
        f"{batch} images of the batch cannot be distinguished. Give the model one image at a time."
    )


def refuse_given(layer: str, given: int, places: Places) -> TokenRoles:
    """Raises `UsageError`: the caller's number of tokens before the patches is not what was measured."""
    others = [token for token, patch in enumerate(places.patches[0].tolist()) if patch < 0]
    raise UsageError(
        f"num_prefix_tokens={given} was given, but when patches of an image were changed, the tokens of {layer} that "
        f"did not change were {others or 'none'}. Leave num_prefix_tokens out to use what was measured."
    )


def refuse_crop(layer: str) -> TokenRoles:
    """Raises `UsageError`: the model crops its images, so the grid of its patches is not that of the whole image."""
    raise UsageError(
        f"{layer} attends to patches of only a part of the image: when the margin of an image was changed, no token "
        "next to it changed. Crop the image first, as the model does, and explain the part that it sees."
    )


def refuse_content(layer: str) -> TokenRoles:
    """Raises `UsageError`: which patch a token stands for depends on what the image shows."""
    raise UsageError(
        f"Which part of the image each token of {layer} stands for depends on what the image shows: when some patches "
        "of an image were changed, tokens of other patches changed, as in a model that crops each image to what is not "
        "black. So it has no attention map. Crop the image first, as the model does, and explain the part that it sees."
    )


def refuse_reordered(layer: str) -> TokenRoles:
    """Raises `UsageError`: the images of a batch change their order by their content."""
    raise UsageError(
        f"The model puts the images of a batch in another order before {layer}, which depends on what they show, as "
        "where they are sorted by their width, so it is not known which tokens are of which image. Give the model one "
        "image at a time."
    )


def refuse_sampled(layer: str) -> TokenRoles:
    """Raises `UsageError`: the keys are sampled at places that depend on the image (`recording.sampled_keys`)."""
    raise UsageError(
        f"The keys of {layer} are sampled at places of the feature map that depend on what the image shows, as in "
        "deformable attention: with the places of another image, it had other keys. No grid of patches holds for all "
        "images, so it has no attention map. Choose other layers: layers=[...]; or try occlusion with grid=(rows, "
        "columns)."
    )


def refuse_unseen(layer: str, places: Places) -> TokenRoles:
    """Raises `UsageError`: some patches of the image have no token, so that a map would have holes."""
    rows, columns = places.grid
    raise UsageError(
        f"Only {places.num_seen} of {rows * columns} patches change a token of {layer}, so there is no attention map: "
        f"the model leaves out the other patches of its {rows} x {columns} grid, as with masked patches, or this call "
        "attends to a part of the keys, as in a loop over windows or over chunks of keys. Give it all patches, choose "
        "another layer: layers=[...], or try grad_cam or occlusion."
    )


def refuse_batch(layer: str) -> TokenRoles:
    """Raises `UsageError`: the layer attends over the images of a batch."""
    raise UsageError(
        f"{layer} attends over the images of a batch, not over the patches of an image: it takes (tokens, batch, "
        "width), but is given (batch, tokens, width). Create nn.MultiheadAttention, or the encoder layer, with "
        "batch_first=True, and train the model again."
    )


def refuse_channels_last(layer: str) -> TokenRoles:
    """Raises `UsageError`: the images have their channels last, and patches are changed along the last two axes."""
    raise UsageError(
        f"The model takes images with channels last, (B, H, W, C), and the places of the tokens of {layer} are "
        "measured only for (B, C, H, W). Watch a module that takes (B, C, H, W) and calls the model with "
        "images.permute(0, 2, 3, 1)."
    )


def refuse_quantised(layer: str) -> TokenRoles:
    """Raises `UsageError`: rounding moves tokens that no patch moves."""
    raise UsageError(
        f"The places of the tokens of {layer} could not be measured: the model is quantised, and rounds the tokens of "
        "a whole batch with one scale, so that any patch changes every token. Explain the model before it is quantised."
    )


def refuse_channels(layer: str, channels: int, tokens: int) -> TokenRoles:
    """Raises `UsageError`: the layer attends over channels (Ding et al. 2022, "DaViT", §3.2), which have no place."""
    raise UsageError(
        f"{layer} attends over the {channels} channels of each head, not over its {tokens} tokens, so it has no "
        "attention map. Choose other layers: layers=[...]."
    )

import marimo

app = marimo.App(app_title="ViT from scratch")


@app.cell(hide_code=True)
def _():
    import marimo as mo

    return (mo,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        # ViT from scratch

        This notebook writes a Vision Transformer in 65 lines, from pixels to logits. It loads the weights into Vitral's
        model, since it *is* the same model, trains it on synthetic shapes, and shows what the class token attends to:
        about 120 lines in all.

        Everything runs on a CPU, in about two minutes on two free cores. Nothing is downloaded, and only Vitral is
        needed. In Colab, upload the file `vitral-*.whl` that `pip wheel --no-deps .` writes in a clone of Vitral, run
        `%pip install vitral-*.whl` in a cell above all others, and restart if Colab asks for it.
        """
    )


@app.cell
def _():
    import math
    import time

    import matplotlib.pyplot as plt
    import torch
    import torch.nn.functional as F
    from torch import nn

    import vitral
    from vitral.data.spec import find_data
    from vitral.report.colours import DIVERGING, UNIFORM, colour_scale

    return DIVERGING, F, UNIFORM, colour_scale, find_data, math, nn, plt, time, torch, vitral


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Images

        The data set has eight classes of shapes. A program draws each image, so there is nothing to download. Bytes are
        scaled to the range -1 to 1.
        """
    )


@app.cell
def _(find_data, plt, torch):
    data = find_data("shapes:n=40000,smallest=0.34,largest=0.42,rotation=5,contrast=0.7")

    def scaled(pixels):  # bytes (b, y, x, c) -> numbers from -1 to 1, (b, c, y, x)
        return pixels.permute(0, 3, 1, 2) / 127.5 - 1

    train_pixels, train_labels = torch.from_numpy(data.train.pixels), torch.from_numpy(data.train.labels)
    test_images, test_labels = scaled(torch.from_numpy(data.test.pixels)), torch.from_numpy(data.test.labels)

    samples, axes = plt.subplots(1, 8, figsize=(10, 1.6))
    for axis, picture, label in zip(axes, data.test.pixels, data.test.labels):
        axis.imshow(picture)
        axis.set_title(data.classes[label], fontsize=9)
        axis.axis("off")
    plt.close(samples)  # shown once, as the cell's result
    samples
    return data, scaled, test_images, test_labels, train_labels, train_pixels


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Patches

        A transformer takes a sequence, so the image is cut into patches, and the same linear layer turns every patch
        into a token. A convolution whose stride equals its kernel size does both: it visits every patch once. 48 x 48
        pixels become 6 x 6 = 36 tokens.
        """
    )


@app.cell
def _(nn):
    class PatchEmbedding(nn.Module):
        def __init__(self, patch_size, in_channels, embed_dim):
            super().__init__()
            self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

        def forward(self, images):  # (b, c, y, x)
            return self.proj(images).flatten(2).transpose(1, 2)  # (b, n, d)

    return (PatchEmbedding,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## A class token, and positions

        A class token is put before the patches: it stands for the whole image, and the head takes it alone. A
        transformer does not know the order of its tokens, so a learned position is added to each of the 37.
        """
    )


@app.cell
def _(torch):
    def with_cls_and_positions(patches, cls_token, pos_embed):  # (b, n, d), (1, 1, d), (1, 1 + n, d)
        cls = cls_token.expand(len(patches), -1, -1)
        return torch.cat([cls, patches], dim=1) + pos_embed  # (b, 1 + n, d)

    return (with_cls_and_positions,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        r"""
        ## One head of attention

        Every token has a query q, a key k and a value v. It attends most to the tokens whose keys match its query:

        $$\mathrm{attention}(q, k, v) = \mathrm{softmax}\left(\frac{q k^\top}{\sqrt{e}}\right) v$$

        Each row of the softmax adds up to 1: the output of a token is a weighted mean of the values.
        """
    )


@app.cell
def _(math, torch):
    def attention(q, k, v):  # (..., n, e) each
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1)  # (..., n, n)
        return weights @ v

    same_keys = attention(torch.randn(5, 4), torch.ones(5, 4), torch.arange(5.0)[:, None])
    same_keys.flatten()  # all keys are equal: every output is the mean of 0, 1, 2, 3, 4
    return (attention,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Many heads

        Several heads attend to different tokens at once, each with its own part of the numbers. One linear layer
        computes all queries, keys and values; another mixes the outputs of the heads.
        """
    )


@app.cell
def _(attention, nn):
    class Attention(nn.Module):
        def __init__(self, embed_dim, num_heads):
            super().__init__()
            self.num_heads = num_heads
            self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
            self.proj = nn.Linear(embed_dim, embed_dim)

        def forward(self, x):
            b, n, d = x.shape
            qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, d // self.num_heads)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (b, heads, n, e) each
            return self.proj(attention(q, k, v).transpose(1, 2).reshape(b, n, d))

    return (Attention,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## The MLP, and a block

        Attention combines tokens; the MLP works on each token alone. Both take the residual stream through a LayerNorm
        and *add* their output to it (pre-norm): the stream itself is never replaced.
        """
    )


@app.cell
def _(Attention, F, nn):
    class MLP(nn.Module):
        def __init__(self, embed_dim, hidden_dim):
            super().__init__()
            self.fc1 = nn.Linear(embed_dim, hidden_dim)
            self.fc2 = nn.Linear(hidden_dim, embed_dim)

        def forward(self, x):
            return self.fc2(F.gelu(self.fc1(x)))

    class Block(nn.Module):
        def __init__(self, embed_dim, num_heads, hidden_dim):
            super().__init__()
            self.norm1 = nn.LayerNorm(embed_dim, eps=1e-6)
            self.attn = Attention(embed_dim, num_heads)
            self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6)
            self.mlp = MLP(embed_dim, hidden_dim)

        def forward(self, x):
            x = x + self.attn(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    return (Block,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## The model

        The model is patches, class token, positions, blocks, one last LayerNorm, and a head that takes the class token
        alone. The names are timm's, which most published ViTs use: they matter below.
        """
    )


@app.cell
def _(Block, PatchEmbedding, nn, torch, with_cls_and_positions):
    class ViT(nn.Module):
        def __init__(self, img_size, patch_size, num_classes, embed_dim, depth, num_heads, mlp_ratio):
            super().__init__()
            self.grid = (img_size // patch_size, img_size // patch_size)
            self.patch_embed = PatchEmbedding(patch_size, 3, embed_dim)
            self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, embed_dim))
            self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + self.grid[0] * self.grid[1], embed_dim))
            hidden_dim = int(embed_dim * mlp_ratio)
            self.blocks = nn.ModuleList(Block(embed_dim, num_heads, hidden_dim) for _ in range(depth))
            self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
            self.head = nn.Linear(embed_dim, num_classes)

        def forward(self, images):
            x = with_cls_and_positions(self.patch_embed(images), self.cls_token, self.pos_embed)
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x)[:, 0])

    sizes = dict(img_size=48, patch_size=8, num_classes=8, embed_dim=64, depth=4, num_heads=4, mlp_ratio=2.0)
    torch.manual_seed(0)
    model = ViT(**sizes)
    return model, sizes


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## The same model

        Vitral's `VisionTransformer` has the same parameter names, so it loads your weights, and then it returns the
        same logits.
        """
    )


@app.cell
def _(model, sizes, test_images, torch, vitral):
    ours = vitral.VisionTransformer(**sizes)
    ours.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        difference = (ours(test_images[:100]) - model(test_images[:100])).abs().max().item()
    assert difference < 1e-5
    f"largest difference of 800 logits: {difference:.1e}"


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Training

        The learning rate rises along a straight line and falls along half a cosine. Muon updates the weight matrices
        inside the blocks: it makes each update orthogonal, so that all directions learn at the same rate. AdamW updates
        everything else. Each batch is shifted by a few pixels, with circular edges.
        """
    )


@app.cell
def _(F, math, model, test_images, test_labels, time, torch, scaled, train_labels, train_pixels):
    STEPS, BATCH, WARMUP, PEAK = 900, 128, 90, 2e-3

    def rate(step):
        if step < WARMUP:
            return (step + 1) / (WARMUP + 1)
        return (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))) / 2

    def accuracy():
        with torch.no_grad():
            return (model(test_images).argmax(dim=1) == test_labels).float().mean().item()

    inner = [own for name, own in model.named_parameters() if name.startswith("blocks.") and own.ndim == 2]
    outer = [own for own in model.parameters() if not any(own is one for one in inner)]
    optimizers = [torch.optim.Muon(inner, lr=10 * PEAK), torch.optim.AdamW(outer, lr=PEAK, weight_decay=0.0)]
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in optimizers]
    began, curve = time.monotonic(), []
    for step in range(STEPS):
        chosen = torch.randint(len(train_pixels), (BATCH,))
        down, right = torch.randint(-4, 5, (2,)).tolist()
        batch = scaled(train_pixels[chosen]).roll((down, right), dims=(2, 3))
        loss = F.cross_entropy(model(batch), train_labels[chosen])
        model.zero_grad()
        loss.backward()
        for part in (*optimizers, *schedules):
            part.step()
        if step % 100 == 99:
            seconds = time.monotonic() - began
            curve.append((step + 1, accuracy()))
            print(f"step {step + 1:4}  loss {loss.item():.3f}  test {curve[-1][1]:.1%}  {seconds:.0f} s")
    trained = curve[-1][1]
    return (trained,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## What the class token attends to

        `vitral.watch` records the attention of any PyTorch model while it runs, yours as well, and verifies that the
        recorded weights produce the model's output. The attention maps below are from the last block, as the mean over
        its heads, on one colour scale: grey is 1× uniform, what each patch would get if all got the same; orange is
        more, blue is less. The number above each map is the class token's attention to itself, which is left out.

        An attention map shows where the class token attends, not what the prediction depends on; `vitral explain` tests
        that. To build the same model step by step, with checks that name your mistakes, run `vitral lab list`.
        """
    )


@app.cell
def _(DIVERGING, UNIFORM, colour_scale, data, model, plt, test_images, trained, vitral):
    assert trained > 0.9
    with vitral.watch(model, rows=[0]) as seen:
        answers = model(test_images[:8]).argmax(dim=1)
    rows = seen.layers[-1].rows([0])[:, :, 0].mean(dim=1).detach()
    maps = (rows[:, 1:] / rows[:, 1:].mean(dim=1, keepdim=True)).unflatten(1, model.grid).numpy()
    norm = colour_scale(UNIFORM, maps)

    figure, panels = plt.subplots(2, 8, figsize=(10, 3), layout="constrained")
    for column in range(8):
        panels[0, column].imshow(data.test.pixels[column])
        panels[0, column].set_title(data.classes[answers[column]], fontsize=9)
        panels[1, column].set_title(f"itself {rows[column, 0].item():.0%}", fontsize=8)
        panels[1, column].imshow(maps[column], cmap=DIVERGING, norm=norm)
        panels[0, column].axis("off")
        panels[1, column].axis("off")
    plt.close(figure)
    figure
    return


if __name__ == "__main__":
    app.run()

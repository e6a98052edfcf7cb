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

        A Vision Transformer in 65 lines, from pixels to an answer. Then its weights are loaded into Vitral's model,
        since it *is* the same model; it is trained on drawn shapes; and we look at what its class token looks at: about
        120 lines in all.

        Everything runs on a processor, in about two minutes on two free cores; nothing is downloaded, and only Vitral
        is needed. In Colab: upload the file `vitral-*.whl` that `pip wheel --no-deps .` writes where Vitral was cloned
        to, run `%pip install vitral-*.whl` in a cell of its own above all others, and restart if Colab asks for it.
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

    return F, math, named, nn, plt, time, torch, vitral


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Images

        Eight kinds of shapes, each image drawn by a program, so that there is no download and no end of them. The
        bytes of a pixel are brought to -1 to 1.
        """
    )


@app.cell
def _(named, plt, torch):
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

        A transformer reads a sequence, so the image is cut into squares, and all squares go through the same linear
        map. A convolution whose stride is its kernel does both: it visits every square once. 48 x 48 pixels become
        6 x 6 = 36 tokens.
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

        One more token is put before the patches: it stands for the whole image, and the answer will be read from it.
        And since a transformer does not know in what order its tokens come, each of the 37 gets a learned row added
        that says where it stood.
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

        Every token asks all tokens (q), is found by what it is (k), and gives what it holds (v):

        $$\mathrm{attention}(q, k, v) = \mathrm{softmax}\left(\frac{q k^\top}{\sqrt{e}}\right) v$$

        Each row of the softmax adds up to 1: a token's output is a weighted mean of what the tokens hold.
        """
    )


@app.cell
def _(math, torch):
    def attention(q, k, v):  # (..., n, e) each
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1)  # (..., n, n)
        return weights @ v

    same_keys = attention(torch.randn(5, 4), torch.ones(5, 4), torch.arange(5.0)[:, None])
    same_keys.flatten().tolist()  # all keys alike: everyone takes the mean of 0, 1, 2, 3, 4
    return (attention,)


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Many heads

        Several heads look at several places at once, each in its own part of the numbers. One linear map makes all
        queries, keys and values; another mixes what the heads found.
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
        ## The feed-forward network, and a block

        In attention tokens meet; in the MLP each goes on alone. Both read the stream through a LayerNorm and *add* what
        they find (pre-norm): the stream itself is never replaced.
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

        Patches, class token, positions, blocks, one last LayerNorm; and the head reads the class token alone. The names
        are timm's, which most published ViTs go by: they will matter below.
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

        Vitral's `VisionTransformer` has the same names, so your weights fit it name by name, and with them it gives the
        same logits.
        """
    )


@app.cell
def _(model, sizes, test_images, torch, vitral):
    ours = vitral.VisionTransformer(**sizes)
    ours.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        apart = (ours(test_images[:100]) - model(test_images[:100])).abs().max().item()
    assert apart < 1e-5
    f"largest difference of 800 logits: {apart:.1e}"


@app.cell(hide_code=True)
def _(mo):
    mo.md(
        """
        ## Training

        A learning rate that rises in a straight line and falls by half a cosine. The matrices inside the blocks are
        moved by Muon, which makes each update orthogonal, so that all its directions learn alike; everything else by
        AdamW. Each batch is shifted by a few pixels, around the edges.
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
        ## What the class token looks at

        `vitral.watch` sees the attention of any PyTorch model while it runs, yours as well, and checks that the weights
        it shows are those that made the output. Here the last block, the mean over its heads, on one colour scale. What
        the class token keeps for itself is not in the maps, but in the numbers above them: a map may be dim because it
        is spread out, or because little is left for the patches.

        A map says where the class token took something from; whether the answer hangs on it is another question, which
        `vitral explain` asks the model. To build the same step by step, and be told which mistake you made:
        `vitral lab list`.
        """
    )


@app.cell
def _(data, model, plt, test_images, trained, vitral):
    assert trained > 0.9
    with vitral.watch(model, rows=[0]) as seen:
        answers = model(test_images[:8]).argmax(dim=1)
    maps = seen.layers[-1].rows([0])[:, :, 0, 1:].mean(dim=1).unflatten(1, model.grid)

    figure, panels = plt.subplots(2, 8, figsize=(10, 3), layout="constrained")
    for column in range(8):
        panels[0, column].imshow(data.test.pixels[column])
        panels[0, column].set_title(data.classes[answers[column]], fontsize=9)
        panels[1, column].set_title(f"itself {1 - maps[column].sum().item():.0%}", fontsize=8)
        panels[1, column].imshow(maps[column].detach().numpy(), cmap="magma", vmin=0, vmax=maps.max().item())
        panels[0, column].axis("off")
        panels[1, column].axis("off")
    plt.close(figure)
    figure
    return


if __name__ == "__main__":
    app.run()

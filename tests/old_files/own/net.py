"""A reader's own model, as one of the files written before names it."""

from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, img_size):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, num_classes)

    def forward(self, images):
        return self.head(self.layer(self.patches(images).flatten(2).mT).mean(dim=1))

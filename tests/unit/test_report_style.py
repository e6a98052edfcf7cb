"""One figure style, whatever the user's own settings."""

import base64

import matplotlib
import numpy as np
from matplotlib import rc_context

from vitral.report.style import STYLE, data_uri, png, sheet, styled
from vitral.report.training import confusion_figure

OWN = {
    "font.size": 30,
    "image.interpolation": "bilinear",
    "savefig.bbox": "tight",
    "savefig.facecolor": "black",
    "figure.dpi": 33,
    "axes.grid": True,
    "xtick.labelsize": 3,
    "text.usetex": False,
    "lines.linewidth": 9,
    "legend.frameon": True,
}


def picture():
    return png(confusion_figure(np.array([[3, 1], [0, 2]]), ["a", "b"]), dpi=50)


def test_the_users_own_settings_change_nothing_in_the_picture():
    plain = picture()
    with rc_context(OWN):
        assert picture() == plain


def test_drawing_changes_none_of_the_users_settings():
    with rc_context(OWN):
        before = dict(matplotlib.rcParams)
        picture()
        assert dict(matplotlib.rcParams) == before


def test_a_figure_is_drawn_in_the_style():
    @styled()
    def draw():
        assert all(matplotlib.rcParams[name] == value for name, value in STYLE.items() if not isinstance(value, str))
        return sheet(2, 1)

    figure = draw()
    assert draw.__name__ == "draw"
    assert figure.get_size_inches().tolist() == [2, 1]
    assert np.frombuffer(png(figure, 50)[16:24], ">u4").tolist() == [100, 50]


def test_a_data_uri_holds_the_content():
    kind, _, content = data_uri(b"\x00\xffcontent", "image/gif").partition(",")
    assert kind == "data:image/gif;base64"
    assert base64.b64decode(content) == b"\x00\xffcontent"

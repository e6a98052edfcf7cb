"""How the explorer's page is put together, and which rows it keeps."""

import json
import re

import numpy as np
import pytest
import torch

from tiny import see_attention, tiny_vit
from vitral.explorer.choice import Choice, choices
from vitral.explorer.document import MODULES, json_text, read, script
from vitral.explorer.shown_layer import shown_layers
from vitral.explorer.sizes import Sizes
from vitral.report.colours import DIVERGING, UNIFORM, colour_scale
from vitral.report.components import IMPORT


def test_each_module_imports_only_from_those_before_it_what_they_export():
    exported = {}
    for name in MODULES:
        code = read(f"{name}.js")
        for statement in IMPORT.findall(code):
            names, source = re.fullmatch(r"import \{([^}]*)\} from \"\./(\w+)\.js\";\n", statement).groups()
            wanted = {word.strip() for word in names.split(",") if word.strip()}
            assert wanted <= exported[source], f"{name} imports {wanted - exported[source]} from {source}"
            assert all(re.search(rf"\b{word}\b", code.replace(statement, "")) for word in wanted), name
        exported[name] = set(re.findall(r"^export (?:async )?(?:function|const|class) (\w+)", code, re.MULTILINE))


def test_joined_they_are_one_script_without_a_name_twice():
    code = script()
    assert "import " not in re.sub(r"//.*", "", code) and "\nexport " not in code
    names = re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", code, re.MULTILINE)
    assert len(names) == len(set(names)) > 40
    assert "</script" not in code and "<!--" not in code
    assert not re.search(r"https?:|\bfetch\(|XMLHttpRequest|innerHTML|\beval\b", code)


def test_names_in_the_header_cannot_end_its_element():
    text = json_text({"name": "</script><!-- \u2028 &"})
    assert "<" not in text and "\u2028" not in text
    assert json.loads(text) == {"name": "</script><!-- \u2028 &"}


@pytest.fixture
def layers(vit, images):
    return shown_layers(see_attention(vit, images[:1]))[0]


def test_choices_go_from_everything_to_least(layers):
    several = list(choices(len(layers)))
    sizes = [choice.num_values(layers) for choice in several]
    assert sizes[0] == max(sizes) and sizes[-1] == min(sizes) < sizes[0] / 2
    assert sizes[0] == sum(layer.num_heads * layer.num_keys**2 for layer in layers)
    assert several[0].sentence(3) == "" and all(choice.sentence(3) for choice in several[1:])


def test_every_choice_keeps_cls_in_every_head_and_the_mean_of_some_patches(layers):
    for choice in choices(len(layers)):
        for place, layer in enumerate(layers):
            parts = list(choice.parts(layer, place, len(layers)))
            assert any(heads == "each" and 0 in queries for heads, queries in parts)
            assert any(set(queries) & set(layer.patch_queries(1)) for _, queries in parts)


def test_a_page_of_two_models_is_as_large_as_both(layers):
    some = layers[:2]
    alone, both = Sizes([(layers, 1.5)], 3, 1000), Sizes([(layers, 1.5), (some, 2.0)], 3, 1000)
    for choice in choices(3):
        assert both.of(choice) == alone.of(choice) + 3 * 2.0 * choice.num_values(some)
    assert "in two models" in both.refusal(10.0) and "Leave --beside out, use fewer images" in both.refusal(10.0)
    assert both.depth == 3 and "two models" not in alone.refusal(10.0)


def test_every_second_patch_is_counted_in_rows_and_columns():
    model = tiny_vit(img_size=(20, 30))  # 5 x 5 patches
    (layer, *_), _ = shown_layers(see_attention(model, torch.randn(1, 3, 20, 30)))
    assert layer.patch_queries(2) == [1 + 5 * row + column for row in (0, 2, 4) for column in (0, 2, 4)]
    assert "every 2nd patch" in Choice(2, 1).sentence(3) and "last layer" in Choice(2, 1).sentence(3)


def test_the_pages_colours_are_those_of_all_maps():
    """The page takes the number of a colour as Matplotlib does: floor(place * count)."""
    values = np.geomspace(0.01, 100, 999)
    norm = colour_scale(UNIFORM, [values])
    place = 0.5 + np.log2(values) / (2 * np.log2(norm.vmax))
    numbers = np.clip(np.floor(place * DIVERGING.N), 0, DIVERGING.N - 1).astype(int)
    assert np.abs(DIVERGING(norm(values)) - DIVERGING(numbers)).max() < 0.02

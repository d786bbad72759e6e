"""``text4seg models``: the profiles, for people and for programs."""

import json

from text4seg.backbones import FAMILIES
from text4seg_client.cli import main


def test_table_lists_every_profile_with_what_serves_it_and_its_memory(capsys):
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    for family in FAMILIES:
        for backbone in family.backbones:
            assert f"{backbone.image_side} px" in lines[backbone.name]
    # 7,063,427,072 parameters, 2 GiB of cache and 2 GiB: 17.2 GiB with 16 bits.
    assert lines["llava-1.5-7b"].split()[-4:] == ["32.3", "17.2", "11.1", "8.5"]
    assert "transformers, vLLM" in lines["llava-1.5-7b"]
    assert "transformers" not in lines["internvl2-8b"]
    assert "vLLM" not in lines["deepseek-vl-7b"]
    assert "not measured" in text


def test_json_holds_the_same(capsys):
    assert main(["models", "--json"]) == 0
    models = {model["name"]: model for model in json.loads(capsys.readouterr().out)["models"]}
    assert len(models) == sum(len(family.backbones) for family in FAMILIES)
    llava = models["llava-1.5-7b"]
    assert llava["memory_bytes"]["16bit"] == 2 * llava["parameters"] + (2 << 30) + (2 << 30)
    assert llava["served_by"] == ["transformers", "vLLM"]
    assert models["qwen-vl-7b"]["served_by"] == ["vLLM"]
    assert models["internvl2-8b"]["shape"] == [16, 16]
    assert models["smolvlm2-2.2b"]["prompt"]["reply"] == "Assistant:"

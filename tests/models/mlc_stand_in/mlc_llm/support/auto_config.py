import json
from types import SimpleNamespace

KINDS = ("no-quant", "group-quant")
MODELS = ["decoder", "encoder", "outdated", "mixture", "pictures", "medusa"]


def detect_model_type(model_type, config):
    assert model_type == "auto"
    found = json.loads(config.read_text())["model_type"]
    if found not in MODELS:
        raise ValueError(f"Unknown model type: {found}. Available ones: {MODELS}")
    kinds = KINDS[:1] if found == "medusa" else KINDS
    return SimpleNamespace(name=found, quantize=dict.fromkeys(kinds))

import json

MODELS = ["decoder", "encoder", "outdated", "mixture", "pictures"]


def detect_model_type(model_type, config):
    assert model_type == "auto"
    found = json.loads(config.read_text())["model_type"]
    if found not in MODELS:
        raise ValueError(f"Unknown model type: {found}. Available ones: {MODELS}")
    return found

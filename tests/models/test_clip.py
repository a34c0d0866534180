"""CLIP: the small model, its zero-shot head, its files."""

import open_clip
import pytest
import torch
import torch.nn.functional as F

from pipeline.errors import RetortError
from pipeline.models import clip
from pipeline.models.classifier import read_metadata
from pipeline.models.loading import load_classifier

CLASSES = ("cat", "dog", "ship")
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
SIZE = clip.ClipSize(image_width=4, embed=8, text_width=8, text_layers=1, text_heads=1, context=12)
CONFIG = clip.make_open_clip_config(SIZE)
TEMPLATES = clip.PROMPT_TEMPLATES["simple"]
PROMPT, MORE = "a photo of a {}.", ["art of the {}.".format]


@pytest.fixture
def student():
    torch.manual_seed(0)
    return clip.PromptClassifier(CONFIG, CLASSES, MEAN, STD, PROMPT, MORE)


@pytest.fixture
def x():
    return torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_logits_are_scaled_cosines(student, x):
    student.eval()
    normalised = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    image = F.normalize(student.clip.visual(normalised), dim=-1)
    tokens = clip.get_tokenizer(CONFIG)([f"a photo of a {name}." for name in CLASSES])
    assert tokens.shape == (3, SIZE.context)
    text = F.normalize(student.clip.encode_text(tokens), dim=-1)
    expected = image @ text.t() / 0.07  # open_clip starts at a temperature of 0.07
    torch.testing.assert_close(student(x), expected, rtol=1e-4, atol=1e-4)


def test_training_takes_the_templates_in_turn_and_resumes(student, x):
    with torch.no_grad():
        first, second, third = student(x), student(x), student(x)
        torch.testing.assert_close(first, third)
        assert not torch.allclose(first, second)
        again = clip.PromptClassifier(CONFIG, CLASSES, MEAN, STD, PROMPT, MORE)
        again.load_state_dict(student.state_dict())
        torch.testing.assert_close(again(x), second)


def test_both_towers_learn(student, x):
    F.cross_entropy(student(x), torch.tensor([0, 1, 2, 0, 1])).backward()
    missing = [name for name, p in student.named_parameters() if p.grad is None]
    assert missing == []
    assert student.clip.token_embedding.weight.grad.abs().sum() > 0
    assert student.clip.visual.trunk.network.conv.weight.grad.abs().sum() > 0


def test_moving_average_of_equal_models_is_the_model(student, x):
    average = torch.optim.swa_utils.AveragedModel(
        student,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9),
        use_buffers=True,
    )
    for _ in range(3):
        average.update_parameters(student)
    assert torch.equal(average.module.prompts, student.prompts)
    student.eval()
    average.module.eval()
    torch.testing.assert_close(average.module(x), student(x))


def test_zero_shot_head_is_the_renormalised_mean_of_the_prompts(student):
    student.train()
    tokenizer = clip.get_tokenizer(CONFIG)
    weights = clip.build_zero_shot_head(student.clip, tokenizer, CLASSES, TEMPLATES)
    assert student.clip.training
    assert not weights.requires_grad
    student.eval()
    with torch.no_grad():
        prompts = tokenizer([template("dog") for template in TEMPLATES])
        dog = F.normalize(student.clip.encode_text(prompts), dim=-1).mean(0)
    torch.testing.assert_close(weights[:, 1], dog / dog.norm())
    assert weights.shape == (SIZE.embed, 3)


def test_zero_shot_with_the_training_prompt_repeats_the_student(student, x):
    teacher = student.eval().make_zero_shot_classifier([PROMPT])
    torch.testing.assert_close(teacher(x), student(x), rtol=1e-4, atol=1e-4)
    features = teacher.features(x)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(teacher.head(features), teacher(x))


def test_saved_classifier_needs_no_text_tower(student, x, tmp_path, monkeypatch):
    teacher = student.make_zero_shot_classifier(TEMPLATES)
    clip.save(teacher, tmp_path / "model.safetensors")
    monkeypatch.setattr(open_clip, "create_model", None)
    loaded = load_classifier(tmp_path / "model.safetensors")
    assert torch.equal(loaded(x), teacher(x))
    assert loaded.classes == CLASSES
    assert not loaded.training
    assert not [name for name in loaded.state_dict() if "text" in name or "token" in name]


def test_nothing_of_the_model_is_lost(student, tmp_path):
    clip.save(student.make_zero_shot_classifier(TEMPLATES), tmp_path / "model.safetensors")
    clip.save_text_tower(student.clip, CONFIG, tmp_path / "text.safetensors")
    image = clip.load(tmp_path / "model.safetensors").state_dict()
    text = clip.load_file(tmp_path / "text.safetensors")
    config = read_metadata(tmp_path / "text.safetensors")["config"]
    whole = clip.build(config)
    whole.load_state_dict({k: v for k, v in image.items() if k.startswith("visual.")} | text)
    for name, value in student.clip.state_dict().items():
        assert torch.equal(whole.state_dict()[name], value), name


def test_text_file_is_no_classifier(student, tmp_path):
    clip.save_text_tower(student.clip, CONFIG, tmp_path / "text.safetensors")
    with pytest.raises(RetortError, match="holds 'clip-text', not 'clip'"):
        clip.load(tmp_path / "text.safetensors")


def test_the_same_configuration_registers_once():
    name = clip.register_config(CONFIG)
    assert clip.register_config(clip.make_open_clip_config(SIZE)) == name
    assert open_clip.list_models().count(name) == 1
    assert open_clip.get_model_config(name) == CONFIG

# SPDX-License-Identifier: Apache-2.0
"""KvpagedCache with small llamas of random weights: what the model computes, what is shared, what is refused."""
from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import warnings

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (tests/eval/run.sh makes a venv that has it)")
pytest.importorskip("transformers.cache_utils", reason="transformers is not installed")

from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM  # noqa: E402

import kvclient as kv  # noqa: E402
from kvclient._identity import fingerprint  # noqa: E402
from kvclient.transformers import KvpagedCache, KvpagedWarning, UnsupportedModel  # noqa: E402

BLOCK = 32  # tokens
VOCABULARY = 300


def make_model(seed: int = 0, **changes):
    torch.manual_seed(seed)
    settings = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
                "num_key_value_heads": 2, "vocab_size": VOCABULARY, "max_position_embeddings": 512,
                "initializer_range": 0.2, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    return LlamaForCausalLM(LlamaConfig(**(settings | changes))).eval()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model():
    return make_model()


def some_tokens(n: int, seed: int = 0):
    return torch.randint(1, VOCABULARY, (1, n), generator=torch.Generator().manual_seed(seed))


def generate(model, ids, cache, n: int = 40, **more):
    mask = more.pop("attention_mask", torch.ones_like(ids))
    return model.generate(ids, attention_mask=mask, past_key_values=cache, do_sample=False, max_new_tokens=n, **more)


def expected(model, ids, n: int = 40):
    return generate(model, ids, DynamicCache(config=model.config), n)


def make_cache(client, model, codec: str = "f32", **more):
    return KvpagedCache(client, model=model, codec_k=codec, block_tokens=BLOCK, **more)


@pytest.fixture
def name(request):
    """A model_id of this test's own, so that no other test's blocks are found."""
    return request.node.name


def test_same_answer_and_blocks_are_kept(client, model, name):
    ids = some_tokens(100)
    cache = make_cache(client, model, model_id=name)
    assert cache.prefill(ids) == 0
    assert torch.equal(generate(model, ids, cache), expected(model, ids))
    assert cache.get_seq_length() == 139  # the last token was not given to the model
    assert (cache.blocks_loaded, cache.blocks_stored) == (0, 4)


def test_prefix_is_not_computed_again(client, model, name):
    ids = some_tokens(100)
    generate(model, ids, make_cache(client, model, model_id=name))
    longer = torch.cat([expected(model, ids)[:, :130], some_tokens(30, 7)], 1)
    cache = make_cache(client, model, model_id=name)
    assert cache.prefill(longer) == 4 * BLOCK
    seen = []
    handle = model.model.layers[0].register_forward_pre_hook(lambda _module, args: seen.append(args[0].shape[1]))
    answer = generate(model, longer, cache)
    handle.remove()
    assert seen[0] == 160 - 4 * BLOCK
    assert torch.equal(answer, expected(model, longer))
    assert (cache.blocks_loaded, cache.blocks_stored) == (4, 2)


def test_one_token_is_left_to_compute(client, model, name):
    ids = some_tokens(3 * BLOCK)
    generate(model, ids, make_cache(client, model, model_id=name), 1)
    assert make_cache(client, model, model_id=name).prefill(ids) == 2 * BLOCK
    assert make_cache(client, model, model_id=name).prefill(ids[0].tolist() + [5]) == 3 * BLOCK


def test_loaded_blocks_are_what_the_codec_keeps(client, model, name):
    ids = some_tokens(100)
    own = DynamicCache(config=model.config)
    model(ids, past_key_values=own)
    model(ids, past_key_values=make_cache(client, model, "q4", model_id=name))
    cache = make_cache(client, model, "q4", model_id=name)
    assert cache.prefill(ids) == 3 * BLOCK
    exact = torch.stack([layer.keys[0] for layer in own.layers])[:, :, :3 * BLOCK]
    loaded = cache._k[:, 0, :, :3 * BLOCK]
    assert 0 < (loaded - exact).abs().mean() / exact.abs().mean() < 0.15
    keys = kv.prefix_keys(ids[0].tolist(), BLOCK, salt=cache._root)
    assert torch.equal(torch.from_numpy(cache._store._space.fetch(keys).k), loaded)


CHILD = """
import sys
import kvclient, test_transformers as t
with kvclient.Client(sys.argv[1]) as client:
    model = t.make_model()
    cache = t.make_cache(client, model, model_id=sys.argv[2])
    t.generate(model, t.some_tokens(100), cache)
"""


def test_processes_share(shared_daemon, client, model, name):
    subprocess.run([sys.executable, "-c", CHILD, shared_daemon.socket, name], check=True, timeout=300,
                   cwd=pathlib.Path(__file__).parent)
    cache = make_cache(client, model, model_id=name)
    assert cache.prefill(some_tokens(100)) == 3 * BLOCK
    assert torch.equal(generate(model, some_tokens(100), cache), expected(model, some_tokens(100)))


def test_other_models_do_not_meet(client, model, name):
    ids = some_tokens(100)
    generate(model, ids, make_cache(client, model, model_id=name))
    for other in (make_model(seed=1), make_model(rope_parameters={"rope_type": "default", "rope_theta": 5e5})):
        assert make_cache(client, other, model_id=name).prefill(ids) == 0
    assert make_cache(client, model, model_id=name + "x").prefill(ids) == 0
    assert make_cache(client, model, model_id=name, revision="2").prefill(ids) == 0
    assert make_cache(client, model, "q8", model_id=name).prefill(ids) == 0
    assert make_cache(client, model, model_id=name).prefill(some_tokens(100, 3)) == 0
    assert make_cache(client, make_model(), model_id=name).prefill(ids) == 3 * BLOCK


def test_fingerprint_changes_with_any_weight(model):
    other = make_model()
    assert fingerprint(other) == fingerprint(model)
    with torch.no_grad():
        other.model.layers[2].mlp.up_proj.weight.mul_(1.0001)
    assert fingerprint(other) != fingerprint(model)


def test_simulation_of_exact_codec_changes_nothing(client, model):
    ids = some_tokens(100)
    assert torch.equal(generate(model, ids, make_cache(client, model, simulate=True)), expected(model, ids))


def test_simulation_replaces_whole_blocks_only(client, model):
    ids = some_tokens(100)
    own = DynamicCache(config=model.config)
    model(ids, past_key_values=own)
    cache = make_cache(client, model, "q4", simulate=True)
    model(ids, past_key_values=cache)
    # The first layer's K and V depend on no other's, so the codec is all that can differ.
    for exact, got in ((own.layers[0].keys, cache._k[0]), (own.layers[0].values, cache._v[0])):
        assert torch.equal(got[:, :, 3 * BLOCK:100], exact[:, :, 3 * BLOCK:])
        assert not torch.equal(got[:, :, :3 * BLOCK], exact[:, :, :3 * BLOCK])
    space = client.space("check", kv.Schema("check", 1, 2, 16, dtype="f32", codec_k="q4", block_tokens=BLOCK))
    space.put("b", own.layers[0].keys[:, :, BLOCK:2 * BLOCK], own.layers[0].values[:, :, BLOCK:2 * BLOCK])
    assert torch.equal(torch.from_numpy(space.fetch(["b"]).k)[0], cache._k[0, 0, :, BLOCK:2 * BLOCK])


def test_simulation_leaves_nothing_behind(client, model):
    cache = make_cache(client, model, "q6", simulate=True)
    assert cache.prefill(some_tokens(100)) == 0
    generate(model, some_tokens(100), cache)
    spaces = [space for name, space in client.stats().spaces.items() if name.startswith("simulate-")]
    assert spaces and all(space.blocks == 0 for space in spaces)


def test_simulated_rows_are_as_alone(client, model):
    rows = [some_tokens(n, seed=n) for n in (40, 70, 75)]
    ids = torch.cat([torch.nn.functional.pad(row, (75 - row.shape[1], 0)) for row in rows])
    mask = (ids != 0).long()
    starts = [75 - row.shape[1] for row in rows]
    together = make_cache(client, model, "q4", simulate=True, row_starts=starts)
    model(ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), past_key_values=together)
    for index, (row, start) in enumerate(zip(rows, starts)):
        alone = make_cache(client, model, "q4", simulate=True)
        model(row, past_key_values=alone)
        # Only the first layer's codes are the same for certain: sums of a batch are rounded in another order.
        difference = (together._k[0, index, :, start:75] - alone._k[0, 0, :, :row.shape[1]]).abs().max()
        assert difference < 1e-4


def test_simulation_without_a_daemon_is_an_error(daemon, model):
    with pytest.raises(ValueError, match="client"):
        make_cache(None, model, simulate=True)
    with kv.Client(daemon.socket, timeout=1) as client:
        cache = make_cache(client, model, "q6", simulate=True)
        daemon.kill()
        with pytest.raises(kv.KvError):
            generate(model, some_tokens(100), cache)


def test_daemon_goes_away(daemon, model):
    ids = some_tokens(71)
    with kv.Client(daemon.socket, timeout=1) as client:
        cache = make_cache(client, model)
        assert cache.prefill(ids) == 0
        model(ids[:, :70], past_key_values=cache)
        assert cache.blocks_stored == 2
        daemon.kill()
        with pytest.warns(KvpagedWarning) as caught:
            answer = generate(model, ids, cache, 60)
        assert torch.equal(answer, expected(model, ids, 60))
        assert len(caught) == 1 and cache.blocks_stored == 2


def test_no_daemon_at_all(daemon, model):
    ids = some_tokens(100)
    assert torch.equal(generate(model, ids, make_cache(None, model)), expected(model, ids))
    with kv.Client(daemon.socket, timeout=1) as client:
        daemon.kill()
        with pytest.warns(KvpagedWarning, match="cannot be used"):
            cache = make_cache(client, model)
        assert cache.prefill(ids) == 0
        assert torch.equal(generate(model, ids, cache), expected(model, ids))


def test_daemon_restarts(daemon, model):
    ids = some_tokens(71)
    with kv.Client(daemon.socket, timeout=20) as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        cache = make_cache(client, model)
        cache.prefill(ids)
        model(ids[:, :70], past_key_values=cache)
        daemon.kill()
        daemon.start()
        generate(model, ids, cache, 60)
        again = make_cache(client, model)
        assert again.prefill(expected(model, ids, 60)) == 4 * BLOCK


def test_conversation_goes_on(client, model, name):
    first = some_tokens(50)
    cache = make_cache(client, model, model_id=name)
    cache.prefill(first)
    said = generate(model, first, cache)
    second = torch.cat([said, some_tokens(20, 9)], 1)
    assert cache.prefill(second) == 89
    assert torch.equal(generate(model, second, cache), expected(model, second))
    with pytest.raises(ValueError, match="reset"):
        cache.prefill(some_tokens(120, 8))
    cache.reset()
    assert cache.get_seq_length() == 0
    assert cache.prefill(second) == 3 * BLOCK


def test_crop(client, model, name):
    ids = some_tokens(100)
    cache = make_cache(client, model, model_id=name)
    model(ids, past_key_values=cache)
    other = torch.cat([ids[:, :60], some_tokens(40, 5)], 1)
    cache.crop(60 - 100)
    assert torch.equal(generate(model, other, cache), expected(model, other))
    assert make_cache(client, model, model_id=name).prefill(other) == 3 * BLOCK
    assert make_cache(client, model, model_id=name).prefill(ids) == 3 * BLOCK


def test_padding_and_embeddings_are_not_kept(client, model, name):
    ids = some_tokens(100)
    mask = torch.ones_like(ids)
    mask[0, :10] = 0
    padded = make_cache(client, model, model_id=name)
    generate(model, ids, padded, attention_mask=mask)
    assert padded.blocks_stored == 0
    masked = make_cache(client, model, model_id=name)
    model(ids, attention_mask=mask, past_key_values=masked)
    assert masked.blocks_stored == 0
    embedded = make_cache(client, model, model_id=name)
    model(inputs_embeds=model.get_input_embeddings()(ids), past_key_values=embedded)
    assert embedded.blocks_stored == 0
    shifted = make_cache(client, model, model_id=name)
    model(ids, position_ids=torch.arange(5, 105)[None], past_key_values=shifted)
    assert shifted.blocks_stored == 0


@pytest.fixture
def saved(tmp_path):
    """A directory with a small model and a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["?", "The", "mill", "stands", "by", "the", "river", "and", "runs", "to", "sea", ",", "."]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(tmp_path)
    make_model().save_pretrained(tmp_path)
    return tmp_path


def test_readme(daemon, saved, monkeypatch, capsys):
    """The program in README.md, with another model's name."""
    text = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
    program = next(part for part in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "transformers" in part)
    program, n = re.subn(r'"HuggingFaceTB/[^"]*"', repr(str(saved)), program)
    assert n == 1
    monkeypatch.setenv("KVPAGED_SOCKET", daemon.socket)
    for cached in ("0", "256"):
        exec(compile(program, "README.md", "exec"), {})
        assert capsys.readouterr().out.split()[0] == cached


def test_closed_client(shared_daemon, model, name):
    client = kv.Client(shared_daemon.socket)
    cache = make_cache(client, model, model_id=name)
    client.close()
    for call in (lambda: cache.prefill(some_tokens(100)), lambda: model(some_tokens(100), past_key_values=cache),
                 lambda: make_cache(client, model)):
        with pytest.raises(ValueError, match="the client is closed"):
            call()


def test_wrong_states(client, model):
    right = torch.zeros(1, 2, 5, 16)
    for word, wrong in (("expected", torch.zeros(1, 3, 5, 16)), ("expected", torch.zeros(1, 2, 5, 8)),
                        ("float64", right.double()), ("on meta", right.to("meta")), ("expected", right[0])):
        cache = make_cache(client, model)
        for states in ((wrong, right), (right, wrong)):
            with pytest.raises(ValueError, match=word):
                cache.update(*states, 0)
        assert cache.get_seq_length() == 0
        cache.update(right, right, 0)
    scattered = torch.arange(160.0).reshape(1, 2, 16, 5).transpose(2, 3)
    assert torch.equal(make_cache(client, model).update(scattered, right, 0)[0], scattered)


def test_values_that_cannot_be_stored(client, name):
    broken = make_model()
    with torch.no_grad():
        broken.model.layers[1].self_attn.v_proj.weight[0, 0] = float("inf")
    with pytest.warns(KvpagedWarning, match="not kept"):
        cache = make_cache(client, broken, "q8", model_id=name)
        broken(some_tokens(100), past_key_values=cache)
    assert cache.blocks_stored == 0


def test_batches_and_beams_are_refused(client, model):
    with pytest.raises(ValueError, match="one sequence"):
        model(some_tokens(100).repeat(2, 1), past_key_values=make_cache(client, model))
    with pytest.raises(ValueError, match="one sequence"):
        generate(model, some_tokens(50), make_cache(client, model), num_beams=2)
    with pytest.raises(ValueError, match="one sequence"):
        make_cache(client, model).prefill(some_tokens(100).repeat(2, 1))


def test_models_that_cannot_be_kept(client):
    from transformers import DeepseekV3Config, MistralConfig, T5Config

    class Model:
        def __init__(self, config):
            self.config, self.dtype, self.device = config, torch.float32, torch.device("cpu")

    for config, text in ((MistralConfig(sliding_window=64), "sliding_attention"),
                         (DeepseekV3Config(), "latent"), (T5Config(), "encoder"),
                         (LlamaConfig(head_dim=12), "head_dim"), (LlamaConfig(head_dim=264), "head_dim")):
        with pytest.raises(UnsupportedModel, match=text):
            KvpagedCache(client, model=Model(config))
    doubles = Model(LlamaConfig(head_dim=64))
    doubles.dtype = torch.float64
    with pytest.raises(UnsupportedModel, match="float64"):
        KvpagedCache(client, model=doubles)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(client, name, dtype):
    half = make_model().to(dtype)
    ids = some_tokens(100)
    codec = "f16" if dtype == torch.float16 else "bf16"
    generate(half, ids, make_cache(client, half, codec, model_id=name), 10)
    cache = make_cache(client, half, codec, model_id=name)
    assert cache.prefill(ids) == 3 * BLOCK
    own = DynamicCache(config=half.config)
    half(ids, past_key_values=own)
    loaded = cache._k[:, 0, :, :3 * BLOCK]
    assert torch.equal(loaded, torch.stack([layer.keys[0] for layer in own.layers])[:, :, :3 * BLOCK])


def test_wrong_arguments(client, model):
    for wrong in ({"working_set": "packed"}, {"block_tokens": 0}, {"block_tokens": 257}, {"row_starts": [0]},
                  {"codec_k": "q7"}):
        with pytest.raises(ValueError):
            KvpagedCache(client, model=model, **wrong)
    with pytest.raises(ValueError, match="integers"):
        make_cache(client, model).prefill(torch.zeros(1, 5))

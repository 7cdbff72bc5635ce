"""Writes the golden .bin files beside it: python make.py [FOLDER]. The oracle is torch.save of PyTorch 2.15.0.

The values are a formula that tests/torch.rs repeats, exact in every float type, so nothing else is stored.
"""
import collections
import os
import sys

import torch

OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
HIDDEN, FFN, KV, VOCAB = 8, 16, 4, 260
SHAPES = {
    "model.embed_tokens.weight": (VOCAB, HIDDEN),
    "model.layers.0.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
    "model.layers.0.self_attn.k_proj.weight": (KV, HIDDEN),
    "model.layers.0.self_attn.v_proj.weight": (KV, HIDDEN),
    "model.layers.0.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
    "model.layers.0.mlp.gate_proj.weight": (FFN, HIDDEN),
    "model.layers.0.mlp.up_proj.weight": (FFN, HIDDEN),
    "model.layers.0.mlp.down_proj.weight": (HIDDEN, FFN),
    "model.layers.0.input_layernorm.weight": (HIDDEN,),
    "model.layers.0.post_attention_layernorm.weight": (HIDDEN,),
    "model.norm.weight": (HIDDEN,),
    "lm_head.weight": (VOCAB, HIDDEN),
}


def values(dtype):
    """Every tensor: element j of tensor k is ((31 k + 7 j) mod 251 - 125) / 64."""
    state = collections.OrderedDict()
    for k, (name, shape) in enumerate(SHAPES.items()):
        count = torch.Size(shape).numel()
        state[name] = (((torch.arange(count) * 7 + k * 31) % 251 - 125) / 64).reshape(shape).to(dtype)
    return state


def save(name, state, **options):
    torch.save(state, os.path.join(OUT, name), **options)


def plain(dtype):
    """As Transformers saved it: bf16 weights, the rotary frequencies in f32, versions of the modules as an attribute."""
    state = values(dtype)
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = 1.0 / 10000 ** (torch.arange(0, 4, 2).float() / 4)
    state._metadata = collections.OrderedDict({"": {"version": 1}, "model": {"version": 1}})
    return state


def views(dtype):
    """The same values in every layout that torch.save keeps."""
    state = values(dtype)
    layer = "model.layers.0."

    def put(name, view):
        assert torch.equal(view, state[name]) and view.data_ptr() != state[name].data_ptr()
        state[name] = view

    q = layer + "self_attn.q_proj.weight"
    put(q, state[q].t().contiguous().t())
    k, v = layer + "self_attn.k_proj.weight", layer + "self_attn.v_proj.weight"
    fused = torch.cat([state[k], state[v]])
    put(k, fused[:KV])
    put(v, torch.nn.Parameter(fused[KV:], requires_grad=False))
    gate, up = layer + "mlp.gate_proj.weight", layer + "mlp.up_proj.weight"
    side_by_side = torch.cat([state[gate], state[up]], dim=1)
    put(gate, side_by_side[:, :HIDDEN])
    put(up, side_by_side[:, HIDDEN:])
    down = layer + "mlp.down_proj.weight"
    put(down, torch.stack([state[down], torch.zeros_like(state[down])], dim=2).reshape(HIDDEN, 2 * FFN)[:, ::2])
    norm = "model.norm.weight"
    put(norm, state[norm].float().repeat_interleave(3)[1::3])
    o = layer + "self_attn.o_proj.weight"
    state[o] = state[o][2].clone().expand(HIDDEN, HIDDEN)  # a view with its own values: row 2 eight times
    state["lm_head.weight"] = state["model.embed_tokens.weight"]  # tied: the same tensor under two names
    state["transformer.h.0.attention.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    return dict(state)


if __name__ == "__main__":
    save("plain.bin", plain(torch.bfloat16))
    save("views.bin", views(torch.float16))
    one = {"model.norm.weight": values(torch.float32)["model.norm.weight"]}
    save("legacy.bin", one, _use_new_zipfile_serialization=False)
    save("protocol4.bin", one, pickle_protocol=4)
    torch.serialization.set_crc32_options(False)
    save("no-crc.bin", values(torch.float32), pickle_protocol=3)

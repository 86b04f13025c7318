"""Makes the fuzzer's seeds, fuzz/seeds/TARGET/NAME, out of the repository's own small files and of what torch and Pillow write, and
its dictionaries, fuzz/dictionaries/TARGET.dict, out of the words in those. Seeds of other names stay: what the program itself wrote
(recipes in pictures and films), folders of golden models, tokenizers.

    pip install torch pillow safetensors
    python scripts/fuzz_seeds.py
"""
import collections
import io
import itertools
import json
import pickle
import random
import re
import struct
import zipfile
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save

ROOT = Path(__file__).parent.parent
SEEDS = ROOT / "fuzz" / "seeds"
CARDS = ROOT / "models" / "cards"
BETWEEN = b"\n%%%%\n"


def seed(target, name, data):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    assert len(data) < 40_000, (target, name, len(data))
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def header(entries, data=b"", length=None):
    text = entries if isinstance(entries, bytes) else compact(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def floats(*shape, dtype=torch.float32):
    return (torch.arange(max(1, torch.Size(shape).numel()), dtype=torch.float32) / 8).reshape(shape).to(dtype)


DTYPES = "F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL F8_E4M3 F8_E5M2 F8_E8M0 F4 C64".split()


def safetensors():
    for index, dtype in enumerate(DTYPES):
        size = {"6": 8, "3": 4, "1": 2}.get(dtype.lstrip("FBIUC")[:1], 1)
        entry = {"dtype": dtype, "shape": [2], "data_offsets": [0, 2 * size]}
        seed("safetensors", f"type_{index:02}_{dtype}", header({"a.weight": entry}, bytes(2 * size)))
    seed("safetensors", "several", save({"a": floats(2, 3), "b.c": floats(4), "d": floats()}, {"format": "pt", "modelspec.title": "x"}))
    seed("safetensors", "none", header({}))
    seed("safetensors", "empty_tensor", header({"a": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}}))
    seed("safetensors", "cut", save({"a": floats(8)})[:-5])
    seed("safetensors", "long", save({"a": floats(8)}) + b"rest")
    seed("safetensors", "huge_shape", header({"a": {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]}}, bytes(4)))
    seed("safetensors", "huge_header", header({}, length=1 << 60))
    seed("safetensors", "backwards", header({"a": {"dtype": "U8", "shape": [2], "data_offsets": [4, 2]}}, bytes(4)))
    seed("safetensors", "hole", header({"a": {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]}}, bytes(4)))
    seed("safetensors", "metadata_number", header({"__metadata__": {"a": 1}}))
    seed("safetensors", "nested", header(b"[" * 200))
    seed("safetensors", "pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    seed("safetensors", "page", b"<!DOCTYPE html><html></html>")


GGUF_BLOCKS = [(2, 32, 18), (3, 32, 20), (6, 32, 22), (7, 32, 24), (8, 32, 34), (10, 256, 84), (11, 256, 110), (12, 256, 144), (13, 256, 176), (14, 256, 210), (15, 256, 292)]


def gguf():
    def text(word):
        return struct.pack("<Q", len(word)) + word.encode()

    def word(key, kind, value):
        return text(key) + struct.pack("<I", kind) + value

    def tensor(name, sides, kind, offset=0):
        return text(name) + struct.pack(f"<I{len(sides)}QIQ", len(sides), *sides, kind, offset)

    def file(tensors, words=(), data=b"", version=3, counts=None):
        counts = counts or (len(tensors), len(words))
        head = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(words) + b"".join(tensors)
        return head + bytes(-len(head) % 32) + data

    def each(kind, values):
        return struct.pack("<IQ", kind, len(values)) + b"".join(values)

    random.seed(0)
    for kind, values, size in GGUF_BLOCKS:
        seed("gguf", f"blocks_{kind}", file([tensor("a.weight", [values, 2], kind)], data=random.randbytes(2 * size)))
    for kind, size in [(0, 4), (1, 2), (24, 1), (27, 8), (28, 8), (30, 2)]:
        seed("gguf", f"plain_{kind}", file([tensor("a.weight", [3], kind)], data=bytes(3 * size)))
    one = [tensor("a.weight", [2], 0)]
    numbers = [word(f"n{kind}", kind, bytes(size)) for kind, size in enumerate([1, 1, 2, 2, 4, 4, 4, 1])]
    wide = [word(f"n{kind}", kind, bytes(8)) for kind in (10, 11, 12)]
    lists = [word("tokenizer.ggml.tokens", 9, each(8, [text("a"), text("b")])), word("k", 9, each(9, [each(0, [b"1"])]))]
    seed("gguf", "words", file(one, [word("general.name", 8, text("x")), *numbers, *wide, *lists], bytes(8)))
    shape = word("comfy.gguf.orig_shape.a.weight", 9, each(5, [struct.pack("<i", side) for side in (4, 8, 1, 1)]))
    seed("gguf", "shape", file([tensor("a.weight", [32], 8)], [shape], bytes(34)))
    seed("gguf", "aligned", file(one, [word("general.alignment", 4, struct.pack("<I", 8))], bytes(8)))
    seed("gguf", "crooked", file(one, [word("general.alignment", 4, struct.pack("<I", 24))], bytes(8)))
    layers = ["token_embd", "enc.blk.0.attn_q", "enc.blk.0.ffn_up", "dec.blk.0.attn_q"]
    encoder = [tensor(f"{layer}.weight", [1], 0, 32 * place) for place, layer in enumerate(layers)]
    seed("gguf", "t5", file(encoder, [word("general.architecture", 8, text("t5encoder"))], bytes(100)))
    seed("gguf", "second", file(one, data=bytes(8), version=2))
    seed("gguf", "first", file(one, data=bytes(8), version=1))
    seed("gguf", "swapped", file(one, data=bytes(8), version=3 << 24))
    seed("gguf", "counts", file(one, data=bytes(8), counts=(1 << 60, 1 << 60)))
    seed("gguf", "cut", file([tensor("a.weight", [64], 8)], data=bytes(34)))
    seed("gguf", "overflow", file([tensor("a.weight", [1 << 40, 1 << 40], 0)], data=bytes(8)))
    seed("gguf", "far", file([tensor("a.weight", [2], 0, (1 << 64) - 32)], data=bytes(8)))
    seed("gguf", "strange", file([tensor("a.weight", [2], 4711)], data=bytes(8)))
    seed("gguf", "long", file(one, [word("k", 8, struct.pack("<Q", 1 << 60))], bytes(8)))
    seed("gguf", "none", file([]))


def shards():
    def index(names, **more):
        return compact({"metadata": {"total_size": 8}, "weight_map": names, **more}).encode()

    one, two = save({"a": floats(2)}), save({"b": floats(2), "c": floats(1)})
    plain = {"a": "a.safetensors", "b": "b.safetensors", "c": "b.safetensors"}
    seed("shards", "two", BETWEEN.join([index(plain), one, two]))
    seed("shards", "absent", BETWEEN.join([index(plain), one]))
    seed("shards", "other_tensor", BETWEEN.join([index({"z": "a.safetensors"}), one]))
    seed("shards", "twice", BETWEEN.join([index({"a": "a.safetensors", "b": "b.safetensors"}), one, save({"a": floats(2), "b": floats(1)})]))
    seed("shards", "torch", BETWEEN.join([index({"a": "c.bin"}), one, one, saved({"a": floats(2)})]))
    outside = ["../a.safetensors", "/etc/passwd", "", ".", "..", "x/a.safetensors", "a.safetensors/", "model.safetensors.index.json", "a\u0000", "\u00e4.safetensors"]
    for number, name in enumerate(outside):
        seed("shards", f"name_{number}", BETWEEN.join([index({"a": name}), one]))
    for number, text in enumerate([b"{}", b"[]", b'{"weight_map": []}', b'{"weight_map": {"a": 1}}', b'{"weight_map": {}}', b"{" * 200]):
        seed("shards", f"shape_{number}", text)


def saved(value, old=False):
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


class Payload:
    def __init__(self, call, arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return (self.call, self.arguments)


def torch_values():
    weights = collections.OrderedDict([("l.weight", floats(2, 3)), ("l.bias", floats(2, dtype=torch.float16)), ("ids", torch.arange(3))])
    turned = floats(2, 3).t()
    yield "plain", weights
    yield "nested", {"epoch": 3, "state_dict": weights}
    yield "module", {"model": weights, "optimizer": {"state": {0: {"step": 1, "exp_avg": floats(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}}
    yield "parameters", {"a": torch.nn.Parameter(floats(2))}
    yield "strided", {"a": turned, "b": turned[1:]}
    yield "shared", {"a": floats(2)[:1], "b": floats(2)[1:]}
    yield "types", {str(one): torch.zeros(2, dtype=one) for one in [torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.bool, torch.int16, torch.int32]}
    yield "f8", {"a": torch.zeros(2, dtype=torch.float8_e4m3fn), "b": torch.zeros(2, dtype=torch.float8_e5m2)}
    yield "list", [floats(2), floats(1)]
    yield "scalar", {"a": floats()}
    yield "embedding", {"string_to_token": {"*": 265}, "string_to_param": {"*": floats(1, 8)}, "name": "x", "step": 1}
    yield "numbers", {"a": 1, "b": -1.5, "c": None, "d": True, "e": "x", "f": b"y", "g": (1, 2), "h": {1, 2}, "i": 1 << 80}
    yield "keys", {1: floats(1), ("a", 2): floats(1), None: 2}
    yield "size", {"a": torch.Size([1, 2]), "b": torch.float32, "c": torch.device("cpu")}


def torch_files():
    for name, value in torch_values():
        seed("torch", name, saved(value))
        if name in ("plain", "strided", "numbers"):
            seed("torch", f"{name}_old", saved(value, old=True))
    import os

    seed("torch", "code", saved({"state_dict": {"a": floats(1)}, "hook": Payload(os.getcwd, ())}))
    for protocol in range(6):
        seed("torch", f"pickle_{protocol}", pickle.dumps({"a": [1, 2.5, "x", {"b": None}], "c": (1, (2, 3))}, protocol))
    seed("torch", "deep", b"\x80\x02" + b"]" * 300 + b"." )
    seed("torch", "memo", b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01h\x00s.")
    seed("torch", "long_string", b"\x80\x02X\xff\xff\xff\x7fa.")
    seed("torch", "negative", b"\x80\x02T\xff\xff\xff\xffa.")
    plain = zipfile.ZipFile(io.BytesIO(saved({"a": floats(4)})))
    for name, kind, dropped in [("deflated", zipfile.ZIP_DEFLATED, None), ("no_data", zipfile.ZIP_STORED, "/0"), ("no_pickle", zipfile.ZIP_STORED, ".pkl")]:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", kind) as archive:
            for entry in plain.namelist():
                if dropped is None or not entry.endswith(dropped):
                    archive.writestr(zipfile.ZipInfo(entry), plain.read(entry), kind)
        seed("torch", name, file.getvalue())


def lora_files():
    low, high = floats(2, 8), floats(4, 2)
    attention = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    dotted = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    alpha = torch.tensor(1.0)
    yield "kohya", {f"lora_unet_{attention}.lora_down.weight": low, f"lora_unet_{attention}.lora_up.weight": high, f"lora_unet_{attention}.alpha": alpha}
    yield "peft", {f"{dotted}.lora_A.weight": low, f"{dotted}.lora_B.weight": high}
    yield "peft_base", {f"base_model.model.{dotted}.lora_A.default.weight": low, f"base_model.model.{dotted}.lora_B.default.weight": high}
    yield "diffusers", {f"{dotted}.lora.down.weight": low, f"{dotted}.lora.up.weight": high}
    yield "processor", {f"{dotted.replace('attn2.to_k', 'attn2.processor.to_k')}_lora.down.weight": low, f"{dotted.replace('attn2.to_k', 'attn2.processor.to_k')}_lora.up.weight": high}
    yield "linear_layer", {f"{dotted}.lora_linear_layer.down.weight": low, f"{dotted}.lora_linear_layer.up.weight": high}
    convolution = "lora_unet_down_blocks_0_resnets_0_conv1"
    yield "locon", {f"{convolution}.lora_down.weight": floats(2, 4, 3, 3), f"{convolution}.lora_up.weight": floats(4, 2, 1, 1), f"{convolution}.alpha": alpha}
    yield "core", {f"{convolution}.lora_down.weight": floats(2, 4, 1, 1), f"{convolution}.lora_mid.weight": floats(2, 2, 3, 3), f"{convolution}.lora_up.weight": floats(4, 2, 1, 1)}
    pair = {"hada_w1_a": floats(4, 2), "hada_w1_b": floats(2, 8), "hada_w2_a": floats(4, 2), "hada_w2_b": floats(2, 8)}
    yield "loha", {f"lora_unet_{attention}.{name}": value for name, value in pair.items()}
    cored = {"hada_w1_a": floats(2, 4), "hada_w1_b": floats(2, 4), "hada_t1": floats(2, 2, 3, 3), "hada_w2_a": floats(2, 4), "hada_w2_b": floats(2, 4), "hada_t2": floats(2, 2, 3, 3)}
    yield "loha_core", {f"{convolution}.{name}": value for name, value in cored.items()}
    yield "original_names", {"lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k.lora_down.weight": low, "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k.lora_up.weight": high}
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    yield "text", {f"{text}.lora_down.weight": floats(2, 8), f"{text}.lora_up.weight": floats(8, 2)}
    yield "lokr", {f"lora_unet_{attention}.lokr_w1": high, f"lora_unet_{attention}.lokr_w2": low}
    yield "dora", {f"{dotted}.lora_A.weight": low, f"{dotted}.lora_B.weight": high, f"{dotted}.dora_scale": floats(4)}
    yield "difference", {f"lora_unet_{attention}.diff": floats(4, 8)}
    yield "rank_0", {f"lora_unet_{attention}.lora_down.weight": floats(1, 8)[:0], f"lora_unet_{attention}.lora_up.weight": floats(4, 1)[:, :0]}
    yield "incomplete", {f"lora_unet_{attention}.lora_down.weight": low}
    yield "halves", {f"lora_unet_{attention}.lora_down.weight": low.half(), f"lora_unet_{attention}.lora_up.weight": high.bfloat16()}
    yield "whole_numbers", {f"lora_unet_{attention}.lora_down.weight": low.int(), f"lora_unet_{attention}.lora_up.weight": high.int()}
    yield "not_a_number", {f"lora_unet_{attention}.lora_down.weight": low * float("nan"), f"lora_unet_{attention}.lora_up.weight": high, f"lora_unet_{attention}.alpha": alpha}
    yield "bundled", {f"lora_unet_{attention}.lora_down.weight": low, f"lora_unet_{attention}.lora_up.weight": high, "bundle_emb.word.string_to_param.*": floats(1, 8)}
    custom = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k_custom_diffusion.weight"
    yield "custom", {custom: floats(4, 8)}
    yield "flat", {f"lora_unet_{attention}.lora_down.weight": floats(8), f"lora_unet_{attention}.lora_up.weight": floats(4)}


def adapters():
    files = dict(lora_files())
    for name, tensors in files.items():
        seed("adapters", name, save({key: value.contiguous() for key, value in tensors.items()}))
    peft = save(files["peft"])
    configs = [{"lora_alpha": 4, "r": 2}, {"lora_alpha": 4, "use_rslora": True, "alpha_pattern": {"attn2.to_k": 8}}, {"use_dora": True}, {"unet.lora_alpha": 2}, {"lora_alpha": "x"}]
    for number, config in enumerate(configs):
        seed("adapters", f"configured_{number}", BETWEEN.join([compact(config).encode(), peft]))
    seed("adapters", "in_header", save(files["peft"], {"lora_adapter_metadata": compact({"unet.lora_alpha": 4})}))
    seed("adapters", "torch", saved(files["kohya"]))


def embeddings():
    for number, (name, shape) in enumerate(itertools.product(["emb_params", "<cat>", "string_to_param.*", "clip_l"], [(8,), (1, 8), (3, 8), (0, 8), (1, 2, 8)])):
        tensor = torch.zeros(shape)
        seed("embeddings", f"one_{number:02}", save({name: tensor}))
    seed("embeddings", "both", save({"clip_l": floats(2, 4), "clip_g": floats(2, 8)}))
    seed("embeddings", "half", save({"<cat>": floats(1, 8, dtype=torch.float16)}))
    seed("embeddings", "whole_numbers", save({"<cat>": torch.zeros(1, 8, dtype=torch.int32)}))
    seed("embeddings", "three", save({"a": floats(1), "b": floats(1), "c": floats(1)}))
    seed("embeddings", "no_name", save({"": floats(1, 8)}))
    webui = {"string_to_token": {"*": 265}, "string_to_param": {"*": floats(1, 8)}, "name": "x", "step": 1, "sd_checkpoint": None}
    seed("embeddings", "webui.pt", saved(webui))
    seed("embeddings", "webui_parameter.pt", saved({**webui, "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(floats(1, 8))})}))
    seed("embeddings", "dictionary.bin", saved({"<cat>": floats(8)}))
    seed("embeddings", "two_words.bin", saved({"<cat>": floats(8), "<dog>": floats(8)}))


def checkpoints():
    unet = "model.diffusion_model"
    read = f"{unet}.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    entrance = f"{unet}.input_blocks.0.0.weight"
    added = f"{unet}.label_emb.0.0.weight"

    def described(shapes, metadata=None, dtype="F16"):
        """Zeros of these shapes."""
        entries, at = ({"__metadata__": metadata} if metadata else {}), 0
        for name, shape in shapes.items():
            size = 2 * torch.Size(shape).numel()
            entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        return header(entries, bytes(at))

    rest = {"first_stage_model.decoder.conv_in.weight": [4, 2, 3, 3], "cond_stage_model.transformer.text_model.final_layer_norm.weight": [4], "model_ema.decay": []}
    kinds = {"v1": (768, None, 4), "v1_inpainting": (768, None, 9), "v2": (1024, None, 4), "v2_inpainting": (1024, None, 9), "xl": (None, 2816, 4), "refiner": (None, 2560, 4), "xl_inpainting": (None, 2816, 9), "unknown": (512, None, 3)}
    for name, (width, extra, channels) in kinds.items():
        shapes = {entrance: [1, channels, 3, 3], **rest}
        if width:
            shapes[read] = [1, width]
        if extra:
            shapes[added] = [1, extra]
        seed("checkpoints", name, described(shapes))
        if name in ("v2", "xl"):
            for marker in ("v_pred", "ztsnr", f"{unet}.v_pred", "edm_mean"):
                seed("checkpoints", f"{name}_{marker.replace('.', '_')}", described({**shapes, marker: []}))
            for key, value in [("modelspec.architecture", "stable-diffusion-v2-768-v"), ("modelspec.architecture", "stable-diffusion-xl-v1-base"), ("modelspec.prediction_type", "v"), ("modelspec.resolution", "512x512"), ("ss_base_model_version", "sd_v2"), ("modelspec.resolution", "x")]:
                seed("checkpoints", f"{name}_{key}_{value}".replace(".", "_"), described(shapes, {key: value}))
    seed("checkpoints", "no_unet", described(rest))
    seed("checkpoints", "classes", described({"cond_stage_model.embedding.weight": [1001, 2], entrance: [2, 3, 3, 3]}))
    seed("checkpoints", "dit", described({"pos_embed": [1, 4, 8], "x_embedder.proj.weight": [8, 4, 2, 2], "blocks.0.attn.qkv.weight": [24, 8], "final_layer.linear.weight": [4, 8], "y_embedder.embedding_table.weight": [3, 8]}))
    seed("checkpoints", "unet_alone", described({name.removeprefix("model.diffusion_model."): shape for name, shape in {entrance: [2, 4, 3, 3], read: [2, 768]}.items()}))
    seed("checkpoints", "flat_shapes", described({entrance: [2], read: [768]}))
    first, text = "first_stage_model", "cond_stage_model.model"
    autoencoder = ("encoder.conv_in", "encoder.down.0.block.0.conv1", "encoder.down.0.downsample.conv", "encoder.mid.block_1.conv1", "encoder.mid.attn_1.q", "encoder.mid.block_2.conv2",
                   "encoder.norm_out", "encoder.conv_out", "quant_conv", "post_quant_conv", "decoder.conv_in", "decoder.mid.attn_1.proj_out", "decoder.up.1.block.0.nin_shortcut", "decoder.up.1.upsample.conv", "decoder.conv_out")
    parts = {f"{first}.{name}.weight": [2, 2, 1, 1] for name in autoencoder}
    layer = f"{text}.transformer.resblocks.0"
    parts |= {f"{layer}.attn.in_proj_weight": [6, 2], f"{layer}.attn.in_proj_bias": [6], f"{layer}.attn.out_proj.weight": [2, 2], f"{layer}.ln_1.weight": [2], f"{layer}.mlp.c_fc.weight": [8, 2]}
    parts |= {f"{text}.positional_embedding": [77, 2], f"{text}.token_embedding.weight": [5, 2], f"{text}.ln_final.weight": [2], f"{text}.text_projection": [2, 2], f"{text}.logit_scale": []}
    seed("checkpoints", "v2_parts", described({entrance: [1, 4, 3, 3], read: [1, 1024], **parts}))
    seed("checkpoints", "autoencoder", described({f"{name}.weight": [2, 2, 1, 1] for name in autoencoder}))
    tiny = {"0.weight": [4, 3, 3, 3], "1.conv.0.weight": [4, 4, 3, 3], "1.conv.2.weight": [4, 4, 3, 3], "1.conv.4.weight": [4, 4, 3, 3], "2.weight": [4, 4, 3, 3]}
    seed("checkpoints", "tiny_encoder", described(tiny))
    seed("checkpoints", "tiny_decoder", described({f"{int(name[0]) + 1}{name[1:]}": shape for name, shape in tiny.items()}))
    seed("checkpoints", "tiny_both", described({f"{half}.{name}": shape for half in ("encoder", "decoder") for name, shape in tiny.items()}))
    seed("checkpoints", "tiny_diffusers", described({f"decoder.layers.{name}": shape for name, shape in tiny.items()}))
    seed("checkpoints", "lightning.ckpt", saved({"epoch": 1, "state_dict": {entrance: floats(2, 4, 3, 3), read: torch.zeros(1, 768)}, "callbacks": {"a": {}}}))


def folder_of(path):
    names = sorted(one for one in path.rglob("*.json") if "tokenizer" not in str(one) and "train" not in str(one) and one.stat().st_size < 4000)
    return [(str(one.relative_to(path)), one.read_bytes()) for one in names if len(one.relative_to(path).parts) < 3]


def configs():
    def joined(files):
        return BETWEEN.join(name.encode() + b"\n" + text for name, text in files[:8])

    folders = [*sorted(CARDS.iterdir()), *(ROOT / "models" / name for name in ("scenes", "scenes-dit", "fashion-ddpm")), *(ROOT / "tests/fixtures" / name / "model" for name in ("dit", "ddpm", "ldm", "sd15", "sd21", "sdxl"))]
    for path in folders:
        if (path / "model_index.json").exists():
            origin = path.parent.name if path.name == "model" else path.name
            seed("configs", origin, joined(folder_of(path)))
    files = dict(folder_of(CARDS / "stable-diffusion-v1-5"))
    index = files.pop("model_index.json")
    seed("configs", "index_alone", joined([("model_index.json", index)]))
    for number, (name, key, value) in enumerate([("unet/config.json", "sample_size", 1 << 40), ("unet/config.json", "sample_size", [64, 32]), ("unet/config.json", "layers_per_block", 1 << 40), ("unet/config.json", "block_out_channels", []), ("unet/config.json", "block_out_channels", [0, 0, 0, 0]), ("vae/config.json", "scaling_factor", 0), ("vae/config.json", "block_out_channels", [1] * 80), ("text_encoder/config.json", "hidden_size", 0), ("scheduler/scheduler_config.json", "num_train_timesteps", 1 << 50)]):
        changed = {**files, name: compact({**json.loads(files[name]), key: value}).encode()}
        seed("configs", f"changed_{number}", joined([("model_index.json", index), *sorted(changed.items())]))


def controls():
    text = (CARDS / "control_v11p_sd15_canny" / "config.json").read_bytes()
    seed("controls", "canny", text)
    seed("controls", "scenes", (ROOT / "models/scenes-control/config.json").read_bytes())
    for name in ("sd15-controlnet", "sdxl-controlnet"):
        for path in sorted((ROOT / "tests/fixtures" / name).rglob("config.json")):
            seed("controls", f"{name}_{path.parent.name}", path.read_bytes())
    plain = json.loads(text)
    changes = [(key, value) for key in ("block_out_channels", "conditioning_embedding_out_channels", "attention_head_dim", "layers_per_block", "cross_attention_dim", "in_channels") for value in (None, 0, [], 1 << 60)]
    for number, (key, value) in enumerate(changes):
        seed("controls", f"changed_{number:02}", compact({**plain, key: value}))


def schedulers():
    for path in sorted(CARDS.iterdir()):
        file = path / "scheduler/scheduler_config.json"
        if file.exists():
            seed("schedulers", path.name, bytes([4]) + file.read_bytes())
    names = "DDIM DDPM PNDM EulerDiscrete EulerAncestralDiscrete HeunDiscrete LMSDiscrete DPMSolverMultistep DPMSolverSinglestep UniPCMultistep LCM TCD DEISMultistep KDPM2Discrete KDPM2AncestralDiscrete EDMEuler Unknown".split()
    for number, name in enumerate(names):
        text = {"_class_name": f"{name}Scheduler", "num_train_timesteps": 1000, "beta_schedule": ["linear", "scaled_linear", "squaredcos_cap_v2"][number % 3], "prediction_type": ["epsilon", "v_prediction", "sample"][number % 3], "timestep_spacing": ["leading", "trailing", "linspace"][number // 3 % 3], "steps_offset": number % 2, "clip_sample": number % 2 == 0, "use_karras_sigmas": number % 4 == 0, "rescale_betas_zero_snr": number % 5 == 0}
        seed("schedulers", f"class_{name}", bytes([number + 1]) + compact(text).encode())
    for number, (key, value) in enumerate([("num_train_timesteps", 1 << 60), ("num_train_timesteps", 0), ("beta_end", 1e300), ("beta_start", -1), ("steps_offset", 1 << 62), ("solver_order", 1 << 60), ("trained_betas", [0.1, 0.2]), ("beta_schedule", "exp"), ("sigma_max", 0), ("original_inference_steps", 0)]):
        text = {"_class_name": names[number] + "Scheduler", "beta_schedule": "scaled_linear", key: value}
        seed("schedulers", f"odd_{number}", bytes([5]) + compact(text).encode())
    seed("schedulers", "bare_numbers", b"\x03" + b'{"_class_name": "DDIMScheduler", "sigma_max": Infinity, "beta_start": NaN}')


def tokenizers():
    vocab = {"!": 0, "a": 1, "c": 2, "t": 3, "t</w>": 4, "ca": 5, "cat</w>": 6, "o": 7, "o</w>": 8, "<|startoftext|>": 9, "<|endoftext|>": 10}
    merges = "#version: 0.2\nc a\nca t</w>\n"
    config = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "!", "model_max_length": 16}
    special = {"bos_token": {"content": "<|startoftext|>", "normalized": True}, "pad_token": "<|endoftext|>"}
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [{"id": 9, "content": "<|startoftext|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}], "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, "post_processor": None, "decoder": None, "model": {"type": "BPE", "dropout": None, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "", "end_of_word_suffix": "</w>", "fuse_unk": False, "vocab": vocab, "merges": ["c a", "ca t</w>"]}}

    def files(vocab=vocab, merges=merges, config=config, special=special, whole=None):
        texts = [one if isinstance(one, str) else "" if one is None else compact(one) for one in (vocab, merges, config, special, whole)]
        return BETWEEN.join(text.encode() for text in texts)

    seed("tokenizers", "two_files", files())
    seed("tokenizers", "no_config", files(config=None, special=None))
    seed("tokenizers", "whole", files(vocab=None, merges=None, whole=whole))
    for length in (0, 1, 2, 3, 77, 1e30, -1, 999_999):
        seed("tokenizers", f"length_{length}", files(config={**config, "model_max_length": length}))
    for key in ("bos_token", "eos_token", "pad_token", "unk_token"):
        seed("tokenizers", f"absent_{key}", files(config={**config, key: "<none>"}, special=None))
        seed("tokenizers", f"flagged_{key}", files(config={**config, key: {"content": "!", "normalized": False, "lstrip": True}}))
    seed("tokenizers", "empty_vocab", files(vocab={}))
    seed("tokenizers", "empty_token", files(vocab={**vocab, "": 11}, config={**config, "pad_token": ""}))
    seed("tokenizers", "odd_merges", files(merges="c\n \nc  a\nx y z\n"))
    seed("tokenizers", "unknown_merges", files(merges="q z\n"))
    seed("tokenizers", "large_ids", files(vocab={**vocab, "x": (1 << 32) - 1}))
    seed("tokenizers", "same_ids", files(vocab={name: 1 for name in vocab}))
    seed("tokenizers", "decoder", files(config={**config, "added_tokens_decoder": {"9": {"content": "<|startoftext|>", "special": True}, "11": {"content": "<new>"}}}))
    seed("tokenizers", "truncating", files(vocab=None, merges=None, whole={**whole, "truncation": {"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0}}))
    for number, model in enumerate([{"type": "WordLevel", "vocab": vocab, "unk_token": "!"}, {"type": "WordPiece", "vocab": vocab, "unk_token": "!", "continuing_subword_prefix": "##", "max_input_chars_per_word": 10}, {"type": "Unigram", "unk_id": 0, "vocab": [["!", 0.0], ["<|startoftext|>", -1.0], ["<|endoftext|>", -2.0]]}]):
        seed("tokenizers", f"model_{number}", files(vocab=None, merges=None, whole={**whole, "model": model}))


RULES = """none
deepcache:interval=3,branch=0
deepcache:interval=5,skip=2,guard=0.1
deepcache:at=0+4+9
deepcache:interval=5,schedule=quadratic,center=15,power=1.4
deepcache:interval=5,schedule=power,power=1.5
deepcache:interval=2,branch=18446744073709551615
deepcache:interval=0
deepcache:interval=18446744073709551615
deepcache:interval=3;tgate:gate=10
deepcache:interval=3,schedule=power,power=-1e308
encoder-propagation:keys=50ls,parallel=4
encoder-propagation:every=3,noise=0.003,noise-from=0.5,noise-at=before-step
encoder-propagation:every=3,parallel=18446744073709551615
faster-diffusion
faster-diffusion-ldm:parallel=2
dit-propagation:cut=18,keys=a
dit-propagation:keys=a,guard=0.5
dit-propagation:cut=3,every=2,parallel=0
tgate:gate=10
tgate:gate=0
l2c:router=router.safetensors
l2c:router=,threshold=nan
deepcache:interval=3,interval=4
deepcache:interval=1e3
deepcache:,,interval=2,
none;none
;
unknown:a=b
dpmpp-2m
ddim
1/4
q8
cuda:0
f16
balanced""".split("\n")


def rules():
    for number, rule in enumerate(RULES):
        seed("rules", f"{number:02}", rule)


def routers():
    for steps, branches, prefix in itertools.product((1, 2, 20), (0, 12, 27), ("", "routers.")):
        rows = {f"{prefix}{step}.prob": torch.linspace(-4, 4, branches) if branches else torch.zeros(0) for step in range(steps)}
        seed("routers", f"{steps}_{branches}{prefix}safetensors", save(rows))
    seed("routers", "torch.pt", saved({f"{step}.prob": floats(12) for step in range(2)}))
    seed("routers", "torch_prefixed.pt", saved(collections.OrderedDict((f"routers.{step}.prob", torch.nn.Parameter(floats(12))) for step in range(3))))
    seed("routers", "square", save({"0.prob": floats(3, 4)}))
    seed("routers", "whole_numbers", save({"0.prob": torch.arange(12)}))
    seed("routers", "gap", save({"0.prob": floats(12), "2.prob": floats(12)}))
    seed("routers", "other", save({"a": floats(12)}))
    seed("routers", "not_a_number", save({"0.prob": floats(12) * float("nan"), "1.prob": floats(12) * float("inf")}))
    seed("routers", "scalar", save({"0.prob": floats()}))


def pictures():
    random.seed(1)
    colours = [tuple(random.randrange(256) for _ in range(4)) for _ in range(35)]
    whole = Image.new("RGBA", (7, 5))
    whole.putdata(colours)

    def written(mode, kind, **options):
        file = io.BytesIO()
        whole.convert("RGB").convert(mode).save(file, kind, **options) if mode != "RGBA" else whole.save(file, kind, **options)
        return file.getvalue()

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        seed("pictures", f"png_{mode.replace(';', '_')}", written(mode, "PNG") if mode != "I;16" else sixteen())
    seed("pictures", "png_interlaced", interlaced())
    for mode, options in [("L", {}), ("RGB", {}), ("RGB", {"progressive": True}), ("RGB", {"subsampling": 0}), ("CMYK", {})]:
        name = "_".join([mode, *options])
        seed("pictures", f"jpeg_{name}", written(mode, "JPEG", **options))
    for turn in (3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = turn
        seed("pictures", f"jpeg_turned_{turn}", written("RGB", "JPEG", exif=exif))
    seed("pictures", "png_turned", written("RGB", "PNG", exif=exif))
    for options in ({"lossless": True}, {"quality": 50}):
        for mode in ("RGB", "RGBA"):
            seed("pictures", f"webp_{mode}_{next(iter(options))}", written(mode, "WEBP", **options))
    file = io.BytesIO()
    whole.save(file, "WEBP", save_all=True, append_images=[whole.rotate(180)], duration=10)
    seed("pictures", "webp_moving", file.getvalue())
    seed("pictures", "gif", written("P", "GIF"))
    file = io.BytesIO()
    whole.convert("P").save(file, "GIF", save_all=True, append_images=[whole.rotate(180).convert("P")])
    seed("pictures", "gif_moving", file.getvalue())
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        seed("pictures", f"bmp_{mode}", written(mode, "BMP"))
    for mode, options in [("L", {}), ("RGB", {}), ("RGBA", {}), ("RGB", {"compression": "tiff_lzw"}), ("RGB", {"compression": "packbits"}), ("RGB", {"compression": "tiff_adobe_deflate"}), ("CMYK", {}), ("P", {}), ("1", {"compression": "group4"})]:
        seed("pictures", "_".join(["tiff", mode, *options.values()]), written(mode, "TIFF", **options))
    for mode, options in [("L", {}), ("RGB", {}), ("RGBA", {}), ("P", {}), ("RGB", {"compression": "tga_rle"})]:
        seed("pictures", "_".join(["tga", mode, *options.values()]), written(mode, "TGA", **options))
    for mode in ("1", "L", "RGB"):
        seed("pictures", f"pnm_{mode}", written(mode, "PPM"))
    seed("pictures", "pnm_text", b"P3 2 2 255 1 2 3 4 5 6 7 8 9 10 11 12\n")
    seed("pictures", "pam", b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n12345678")
    seed("pictures", "empty", b"")


def chunk(kind, data):
    import zlib

    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, interlace, data):
    import zlib

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def sixteen():
    return png(3, 2, 16, 2, 0, (b"\0" + bytes(range(18))) * 2)


def interlaced():
    return png(2, 2, 8, 0, 1, b"\0\x01" + b"\0\x02" + b"\0\x03\x04")


def png_text():
    keys = ["prompt", "parameters", "Title", "a" * 79, "a" * 80, "", " a", "a ", "a  b", "\u00e4", "\u4f60", "a\n", "a\0", "afterimage"]
    values = ["a cat", "", "\u4f60\u597d", "line\nline", "\0", "{\"a\": 1}", "x" * 300]
    for number, key in enumerate(keys):
        seed("png_text", f"key_{number:02}", f"{key}\x1f{values[number % len(values)]}")
    for number, value in enumerate(values):
        seed("png_text", f"value_{number}", f"prompt\x1f{value}\x1eseed\x1f{number}")
    seed("png_text", "twice", "a\x1fb\x1ea\x1fc")


def fingerprint(study):
    value = 0xCBF29CE484222325
    for byte in compact({**study, "model": ""}).encode():
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{value:016x}"


def recipes():
    """Those whose pictures lie beside them; the target says which."""
    photo, frames = {"path": "photo.png"}, {"path": "frames"}
    other = {**photo, "hash": "sha256:00"}
    net = {"model": "net", "image": photo}
    for name, more in {
        "start": {"init_image": photo, "strength": 0.5},
        "start_masked": {"init_image": photo, "mask": photo},
        "start_changed": {"init_image": other},
        "start_missing": {"init_image": {"path": "gone.png", "hash": "sha256:00"}},
        "mask_alone": {"mask": photo},
        "strength_alone": {"strength": 0.5},
        "control": {"controls": [net]},
        "control_frames": {"controls": [{**net, "image": frames, "canny": [5, 10]}]},
        "control_no_outlines": {"controls": [{**net, "canny": [1e6, 2e6]}]},
        "control_wrong_outlines": {"controls": [{**net, "canny": [2, 1]}]},
        "latents": {"initial_latents": photo, "router": photo},
    }.items():
        seed("recipes", name, compact({"version": 1, "prompts": ["x"], **more}))


def manifests():
    plain = {"rule": "none", "steps": 4, "speedup_forecast": 1.5, "cells_forecast": 8}
    cached = {"rule": "deepcache:interval=3,branch=0", "steps": 4, "speedup_forecast": 2.5, "cells_forecast": 4}
    study = {"version": "0.1.0", "model": "scenes", "weights": "0123456789abcdef", "dtype": "f32", "sampler": "ddim", "guidance_scale": 7.5, "width": 2, "height": 1, "samples": 2, "batch": 2, "seed": 0, "methods": [plain, cached], "subjects": {"prompts": ["a cat", "a dog"]}}

    def batch(of, pictures=2, **more):
        cost = {"denoising": 1.5, "whole": 2.5, "cells": 8}
        record = {"batch": 0, "study": fingerprint(of), "device": "cpu", "warm": True, "costs": [cost] * len(of["methods"]), **more}
        tensors = {f"pictures.{method}": torch.zeros(pictures, of["height"], of["width"], 3, dtype=torch.uint8) for method in range(len(of["methods"]))}
        return save(tensors, {"record": compact(record)})

    def both(name, **changes):
        changed = {**study, **changes}
        seed("manifests", name, BETWEEN.join([compact(changed).encode(), batch(changed)]))

    def shards(name, second, **changes):
        one, other = {**study, "batch": 1}, {**study, "batch": 1, **changes}
        seed("manifests", name, BETWEEN.join([compact(one).encode(), batch(one, pictures=1), compact(other).encode(), second]))

    one_each = {**study, "batch": 1}
    shards("shards", batch(one_each, pictures=1, batch=1))
    shards("shards_of_two_models", batch(one_each, pictures=1, batch=1), model="elsewhere")
    shards("shards_of_two_studies", batch(one_each, pictures=1, batch=1), guidance_scale=1.0)
    shards("shard_damaged", batch(one_each, pictures=1, batch=1)[:-1])
    shards("shard_missing", b"")
    both("plain")
    both("films", frames=2)
    both("classes", subjects={"classes": [[1, "cat"], [2, ""]]})
    both("nothing", subjects="nothing")
    both("no_prompts", subjects={"prompts": []})
    both("no_classes", subjects={"classes": []})
    both("no_methods", methods=[])
    both("no_batch", batch=0)
    both("no_samples", samples=0)
    both("one_each", batch=1)
    both("huge_samples", samples=1 << 60)
    both("huge_batch", batch=(1 << 64) - 1)
    both("huge_seed", seed=(1 << 64) - 1)
    both("unknown_rule", methods=[plain, {**plain, "rule": "nonsense:"}])
    both("other_model", model="elsewhere")
    text = compact(study).encode()
    seed("manifests", "alone", text)
    seed("manifests", "too_few", BETWEEN.join([text, batch(study, pictures=1)]))
    seed("manifests", "other_study", BETWEEN.join([text, batch(study, study="0")]))
    seed("manifests", "other_batch", BETWEEN.join([text, batch(study, batch=7)]))
    seed("manifests", "no_costs", BETWEEN.join([text, batch(study, costs=[])]))
    seed("manifests", "no_record", BETWEEN.join([text, save({"pictures.0": torch.zeros(2, 1, 2, 3, dtype=torch.uint8)})]))
    seed("manifests", "floats", BETWEEN.join([text, save({f"pictures.{one}": torch.zeros(2, 1, 2, 3) for one in range(2)}, {"record": compact({"batch": 0, "study": fingerprint(study), "device": "", "warm": False, "costs": []})})]))
    seed("manifests", "flat", BETWEEN.join([text, save({f"pictures.{one}": torch.zeros(12, dtype=torch.uint8) for one in range(2)}, {"record": compact({"batch": 0, "study": fingerprint(study), "device": "", "warm": False, "costs": []})})]))


def data():
    def archive(shape, dtype="|u1", order="False", body=None, kind=zipfile.ZIP_STORED, version=b"\x01\x00"):
        text = f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': ({', '.join(map(str, shape))},), }}"
        text = text.ljust(117) + "\n"
        body = bytes(torch.Size(shape).numel()) if body is None else body
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", kind) as written:
            written.writestr(zipfile.ZipInfo("arr_0.npy"), b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode() + body, kind)
        return file.getvalue()

    seed("data", "colour.npz", archive((2, 2, 3, 3)))
    seed("data", "grey.npz", archive((2, 2, 3, 1)))
    seed("data", "deflated.npz", archive((2, 2, 3, 3), kind=zipfile.ZIP_DEFLATED))
    seed("data", "bomb.npz", archive((1, 99, 99, 3), kind=zipfile.ZIP_DEFLATED))
    seed("data", "cut.npz", archive((2, 2, 3, 3), body=b"123"))
    seed("data", "no_pictures.npz", archive((0, 2, 3, 3)))
    seed("data", "no_pixels.npz", archive((2, 0, 3, 3)))
    seed("data", "endless.npz", archive((1 << 60, 0, 0, 3), body=b""))
    seed("data", "huge.npz", archive((1, 1 << 30, 1 << 30, 3), body=b""))
    seed("data", "large.npz", archive((1, 1 << 16, 1 << 16, 3), body=b""))
    seed("data", "wide_type.npz", archive((1, 1, 1, 3), dtype="<f4"))
    seed("data", "fortran.npz", archive((1, 1, 1, 3), order="True"))
    seed("data", "version_2.npz", archive((1, 1, 1, 3), version=b"\x02\x00"))
    seed("data", "flat.npz", archive((6,)))
    for number, text in enumerate(["a cat\na dog\n", "\n\n", "", "{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"x\": 1}\n", "{\"text\": 1}\n", "{\"prompt\": 1}\n", "\ufeffa cat\r\n", "[" * 300, "{\"prompt\": \"\\ud800\"}"]):
        seed("data", f"prompts_{number}", text)


# What separates files, and numbers at the edge of types.
EVERYWHERE = ["\\x0a%%%%\\x0a", "18446744073709551615", "9223372036854775807", "4294967296", "-1", "1e308", "null", "[]", "{}"]
OPCODES = [f"\\x{ord(one):02x}" for one in "().0]}abcdeghijlopqrstuBCGIJKLMNPQRSTUVX"] + [f"\\x{one:02x}" for one in range(0x80, 0x98)]
CLASSES = [f"c{module}\\x0a{name}\\x0a" for module, name in [("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"), ("torch", "FloatStorage"), ("torch", "HalfStorage"), ("torch", "BFloat16Storage"), ("collections", "OrderedDict"), ("numpy", "dtype"), ("_codecs", "encode"), ("os", "system")]]


KEYS = ["GGUF", "general.alignment", "general.architecture", "t5encoder", "comfy.gguf.orig_shape.", "\\x09\\x00\\x00\\x00", "\\x08\\x00\\x00\\x00"]


def dictionary(target, files):
    """Every quoted word of the seeds, or every word of a rule."""
    pattern = rb"[a-z0-9.-]+[=:,;+]?" if target in ("rules", "png_text") else rb'"[A-Za-z0-9_.]{1,48}"'
    words = {word.decode() for file in files for word in re.findall(pattern, file.read_bytes())}
    quoted = [word.replace('"', '\\"') for word in sorted(words)]
    more = [*OPCODES, *CLASSES] if target in ("torch", "embeddings", "routers") else KEYS if target == "gguf" else []
    lines = [f'"{word}"' for word in [*EVERYWHERE, *more, *quoted]]
    folder = ROOT / "fuzz" / "dictionaries"
    folder.mkdir(exist_ok=True)
    (folder / f"{target}.dict").write_text("\n".join(lines) + "\n")


def main():
    torch.manual_seed(0)
    for make in (safetensors, gguf, shards, torch_files, adapters, embeddings, checkpoints, configs, controls, schedulers, tokenizers, rules, routers, pictures, png_text, recipes, manifests, data):
        make()
    for folder in sorted(SEEDS.iterdir()):
        files = list(folder.iterdir())
        assert len(files) >= 20, (folder.name, len(files))
        dictionary(folder.name, files)
        print(folder.name, len(files), sum(file.stat().st_size for file in files))


if __name__ == "__main__":
    main()

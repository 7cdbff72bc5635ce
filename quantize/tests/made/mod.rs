//! Random checkpoints in the real layout, small enough for a test. The seed is printed when a test fails.

#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod torch;

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tulu_quantize::Ftype;

/// Dimensions and storage of a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) hidden: usize,
    pub(crate) ffn: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) vocab: usize,
    /// F32, F16 or BF16.
    pub(crate) lossless: Ftype,
    pub(crate) shards: usize,
    pub(crate) seed: u64,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self {
            hidden: 512,
            ffn: 768,
            layers: 3,
            heads: 8,
            kv_heads: 2,
            vocab: 300,
            lossless: Ftype::BF16,
            shards: 2,
            seed: 1,
        }
    }
}

/// (name, shape, bytes)
pub(crate) type Tensor = (String, Vec<usize>, Vec<u8>);

impl Checkpoint {
    pub(crate) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (h, f, d) = (self.hidden, self.ffn, self.hidden / self.heads);
        let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab, h])];
        for i in 0..self.layers {
            for (name, shape) in [
                ("self_attn.q_proj", vec![h, h]),
                ("self_attn.k_proj", vec![self.kv_heads * d, h]),
                ("self_attn.v_proj", vec![self.kv_heads * d, h]),
                ("self_attn.o_proj", vec![h, h]),
                ("mlp.gate_proj", vec![f, h]),
                ("mlp.up_proj", vec![f, h]),
                ("mlp.down_proj", vec![h, f]),
                ("input_layernorm", vec![h]),
                ("post_attention_layernorm", vec![h]),
            ] {
                all.push((format!("model.layers.{i}.{name}.weight"), shape));
            }
        }
        all.push(("model.norm.weight".to_owned(), vec![h]));
        all.push(("lm_head.weight".to_owned(), vec![self.vocab, h]));
        all
    }

    pub(crate) fn config(&self) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": self.hidden,
            "intermediate_size": self.ffn, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "vocab_size": self.vocab, "max_position_embeddings": 256,
            "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "rope_scaling": null,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        })
    }

    pub(crate) fn encode(&self, x: f32) -> Vec<u8> {
        match self.lossless {
            Ftype::F32 => x.to_le_bytes().to_vec(),
            Ftype::BF16 => (x.to_bits() >> 16).to_le_bytes()[..2].to_vec(),
            // exact for the values used here: |x| in normal range of half, mantissa cut to 10 bits
            _ => {
                let bits = x.to_bits();
                let exponent = ((bits >> 23) & 0xff) as i32 - 127;
                let half = if exponent < -14 {
                    0
                } else {
                    ((bits >> 16) & 0x8000) | (((exponent + 15) as u32) << 10) | ((bits >> 13) & 0x3ff)
                };
                half.to_le_bytes()[..2].to_vec()
            }
        }
    }

    pub(crate) fn tensors(&self) -> Vec<Tensor> {
        let mut state = self.seed;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let value = |shape: &[usize], mut u: Box<dyn FnMut() -> f32 + '_>| {
            let n: usize = shape.iter().product();
            // a sum of uniforms is near enough to the bell curve of real weights; norms are around 1
            (0..n)
                .map(|_| if shape.len() == 1 { 1.0 + u() * 0.2 } else { (u() + u() + u() + u()) * 0.04 })
                .collect::<Vec<_>>()
        };
        self.shapes()
            .into_iter()
            .map(|(name, shape)| {
                let values: Vec<f32> = value(&shape, Box::new(&mut uniform));
                let bytes = values.iter().flat_map(|x| self.encode(*x)).collect();
                (name, shape, bytes)
            })
            .collect()
    }

    pub(crate) fn dtype(&self) -> &'static str {
        self.lossless.name()
    }

    pub(crate) fn write(&self, dir: &Path) {
        println!("checkpoint of seed {} in {}", self.seed, dir.display());
        fs::create_dir_all(dir).unwrap();
        let tensors = self.tensors();
        let per_shard = tensors.len().div_ceil(self.shards);
        let mut weight_map = serde_json::Map::new();
        for (i, shard) in tensors.chunks(per_shard).enumerate() {
            let file = if self.shards == 1 {
                "model.safetensors".to_owned()
            } else {
                format!("model-{:05}-of-{:05}.safetensors", i + 1, self.shards)
            };
            shard.iter().for_each(|(name, ..)| drop(weight_map.insert(name.clone(), file.clone().into())));
            fs::write(dir.join(&file), safetensors(self.dtype(), shard)).unwrap();
        }
        if self.shards > 1 {
            let index = json!({"metadata": {}, "weight_map": weight_map});
            fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
        }
        self.write_beside(dir);
    }

    /// What is in the folder beside the weights.
    pub(crate) fn write_beside(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("config.json"), self.config().to_string()).unwrap();
        fs::write(dir.join("tokenizer.model"), sentencepiece(self.vocab.min(270))).unwrap();
        let settings = json!({
            "add_bos_token": true, "add_eos_token": false, "bos_token": "<s>", "eos_token": {"content": "</s>"},
            "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
        });
        fs::write(dir.join("tokenizer_config.json"), settings.to_string()).unwrap();
    }
}

/// A safetensors file of these tensors.
pub(crate) fn safetensors(dtype: &str, tensors: &[Tensor]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, shape, bytes) in tensors {
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes.len()]});
        header.insert(name.clone(), entry);
        at += bytes.len();
    }
    let text = Value::Object(header).to_string();
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.as_bytes());
    tensors.iter().for_each(|(.., bytes)| out.extend(bytes));
    out
}

/// A SentencePiece model of `n` pieces (at least 260): `<unk>`, `<s>`, `</s>`, the 256 bytes, then letters.
pub(crate) fn sentencepiece(n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |text: &str, score: f32, kind: u8| {
        let mut piece = vec![0x0a, u8::try_from(text.len()).unwrap()];
        piece.extend(text.as_bytes());
        piece.push(0x15);
        piece.extend(score.to_le_bytes());
        piece.extend([0x18, kind]);
        out.extend([0x0a, u8::try_from(piece.len()).unwrap()]);
        out.extend(piece);
    };
    put("<unk>", 0.0, 2);
    put("<s>", 0.0, 3);
    put("</s>", 0.0, 3);
    for byte in 0..=255_u8 {
        put(&format!("<0x{byte:02X}>"), 0.0, 6);
    }
    for i in 259..n {
        put(&format!("\u{2581}w{i}"), -(i as f32), 1);
    }
    out
}

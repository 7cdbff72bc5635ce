//! GGUF files with a byte-level BPE vocabulary: a small one on the weights of the bundled checkpoint, and that of Llama 3
//! from its tokenizer.json. They are made without the program's converter.

use super::gguf::GgufFile;
use super::{demo_model, shared};
use serde_json::Value as Json;
use std::fs;
use tulu_quantize::gguf::{Array, Value};

/// Ids of the control tokens of [`small`]: `<|begin_of_text|>`, `<|end_of_text|>`, `<|eot_id|>`.
pub(crate) const CONTROLS: [u32; 3] = [1_000, 1_001, 1_002];

/// The template of Tulu 3, as its tokenizer_config.json has it.
pub(crate) const TULU_3: &str = "{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}{% if not loop.last %}{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}{% else %}{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}";

/// The characters that stand for the bytes 0 to 255 in a byte-level vocabulary (`bytes_to_unicode` of GPT-2).
fn byte_characters() -> Vec<char> {
    let plain = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256;
    let mut of = |byte: u32| {
        if plain(&byte) {
            return char::from_u32(byte).unwrap();
        }
        next += 1;
        char::from_u32(next - 1).unwrap()
    };
    (0..256).map(&mut of).collect()
}

/// The bundled model with a byte-level vocabulary: the id of a byte is its value, 256 is `>` and a newline, 257 and 258
/// are `Hi` and ` Hi`; the control tokens are [`CONTROLS`]; the other rows belong to no token. Its answers make no sense.
pub(crate) fn small() -> GgufFile {
    let bytes = byte_characters();
    let mut tokens: Vec<String> = bytes.iter().map(char::to_string).collect();
    let of = |byte: u8| bytes[usize::from(byte)].to_string();
    let merges = [[of(b'>'), of(b'\n')], [of(b'H'), of(b'i')], [of(b' '), format!("{}{}", of(b'H'), of(b'i'))]];
    tokens.extend(merges.iter().map(|[a, b]| format!("{a}{b}")));
    tokens.extend((tokens.len()..1536).map(|id| format!("[PAD{id}]")));
    let mut kinds: Vec<i32> = (0..1536).map(|id| if id < 259 { 1 } else { 5 }).collect();
    for (id, name) in CONTROLS.into_iter().zip(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]) {
        (tokens[id as usize], kinds[id as usize]) = (name.to_owned(), 3);
    }
    let mut file = GgufFile::read(demo_model());
    file.pairs.retain(|(key, _)| !key.starts_with("tokenizer.") && !key.starts_with("tulu_quant."));
    vocabulary(&mut file, tokens, kinds, merges.map(|[a, b]| format!("{a} {b}")).to_vec());
    let ids = [("bos", CONTROLS[0]), ("eos", CONTROLS[1])];
    for (name, id) in ids {
        file.put(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
    }
    file.put("tokenizer.chat_template", Value::Str(TULU_3.to_owned()));
    file
}

fn vocabulary(file: &mut GgufFile, tokens: Vec<String>, kinds: Vec<i32>, merges: Vec<String>) {
    file.put("tokenizer.ggml.model", Value::Str("gpt2".to_owned()));
    file.put("tokenizer.ggml.pre", Value::Str("llama-bpe".to_owned()));
    file.put("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens)));
    file.put("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
    file.put("tokenizer.ggml.merges", Value::Array(Array::Str(merges)));
}

/// The vocabulary of Tulu 3 (`../shared/data/llama3`) with this chat template, without weights.
pub(crate) fn llama3(template: &str) -> GgufFile {
    let json: Json = serde_json::from_slice(&fs::read(shared("data/llama3/tokenizer.json")).unwrap()).unwrap();
    let rows = 128_264;
    let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
    let mut kinds = vec![5; rows];
    for (text, id) in json["model"]["vocab"].as_object().unwrap() {
        let id = id.as_u64().unwrap() as usize;
        (tokens[id], kinds[id]) = (text.clone(), 1);
    }
    for added in json["added_tokens"].as_array().unwrap() {
        let id = added["id"].as_u64().unwrap() as usize;
        (tokens[id], kinds[id]) = (added["content"].as_str().unwrap().to_owned(), 3);
    }
    let merges = json["model"]["merges"].as_array().unwrap().iter();
    let merges: Vec<String> = merges.map(|merge| merge.as_str().unwrap().to_owned()).collect();
    let numbers = [
        ("block_count", 32),
        ("context_length", 131_072),
        ("embedding_length", 4096),
        ("feed_forward_length", 14_336),
        ("attention.head_count", 32),
        ("attention.head_count_kv", 8),
    ];
    let mut file = GgufFile::default();
    file.put("general.architecture", Value::Str("llama".to_owned()));
    for (key, n) in numbers {
        file.put(&format!("llama.{key}"), Value::U32(n));
    }
    file.put("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    vocabulary(&mut file, tokens, kinds, merges);
    file.put("tokenizer.ggml.bos_token_id", Value::U32(128_000));
    file.put("tokenizer.ggml.eos_token_id", Value::U32(128_001));
    file.put("tokenizer.ggml.padding_token_id", Value::U32(128_256));
    file.put("tokenizer.ggml.add_bos_token", Value::Bool(true));
    file.put("tokenizer.chat_template", Value::Str(template.to_owned()));
    file
}

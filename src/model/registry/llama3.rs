//! The models of the family that are derived from Llama 3 and 3.1: Tulu 3, and the recipe of Tulu 2 and 2.5 on Llama 3.
//! Sources: pages, config.json files and model cards of the repositories on the Hub; the scores of all sizes of Tulu 3
//! are in the card of Llama-3.1-Tulu-3-405B. A fact that is not known is `Unknown` or `None`.

use super::entry::{Entry, ModelKind, Scores, WeightFormat};
use super::shape::shape;
use tulu_quantize::checkpoint::{Config, RopeScaling};

const LLAMA_3_1: &str = "Llama 3.1 Community; who passes it on gives a copy of the licence, shows \"Built with Llama\", and \
                         begins the name with Llama; the terms of Gemma and Qwen hold for parts of the training data";
const APACHE_3: &str = "Apache-2.0; derived from Llama 3 (Community licence: a copy of it, \"Built with Meta Llama 3\", a name \
                        that begins with Llama 3)";
const APACHE_3_1: &str = "Apache-2.0; derived from Llama 3.1 (Community licence: a copy of it, \"Built with Llama\", a name \
                          that begins with Llama)";

/// The context of Llama 3.1, whose rotary embedding is scaled.
const LONG: u32 = 131_072;
const SCALED: RopeScaling =
    RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };

/// (width, feed-forward, layers, heads, key-value heads, vocabulary, context)
const fn config(hidden: u32, ffn: u32, layers: u32, heads: u32, kv: u32, vocab: u32, context: u32) -> Config {
    Config {
        max_position_embeddings: context,
        rope_theta: 500_000.0,
        rope_scaling: if context == LONG { SCALED } else { RopeScaling::None },
        bos_token_id: Some(128_000),
        eos_token_id: Some(128_001),
        ..shape(hidden, ffn, layers, heads, kv, vocab)
    }
}

/// Rows of the embedding of Tulu 3: `<pad>` is added, and the number is rounded up to a multiple of 8.
const PADDED: u32 = 128_264;
/// Rows of the embedding of Llama 3.
const PLAIN: u32 = 128_256;

static TULU_3_8B: Config = config(4096, 14_336, 32, 32, 8, PADDED, LONG);
static TULU_3_70B: Config = config(8192, 28_672, 80, 64, 8, PADDED, LONG);
static TULU_3_405B: Config = config(16_384, 53_248, 126, 128, 8, PADDED, LONG);
static LLAMA_3_8B: Config = config(4096, 14_336, 32, 32, 8, PLAIN, 8192);
static LLAMA_3_70B: Config = config(8192, 28_672, 80, 64, 8, PLAIN, 8192);
static LLAMA_3_1_8B: Config = config(4096, 14_336, 32, 32, 8, PLAIN, LONG);
static LLAMA_3_1_70B: Config = config(8192, 28_672, 80, 64, 8, PLAIN, LONG);

const CARD: &str = "the model card of Llama-3.1-Tulu-3-405B";

macro_rules! tulu3 {
    ($avg:literal $mmlu:literal $popqa:literal $tqa:literal $bbh:literal $drop:literal $math:literal $gsm:literal $he:literal
     $hep:literal $ife:literal $ae:literal $safe:literal) => {
        Some(Scores {
            source: CARD,
            values: &[
                ("average", $avg),
                ("MMLU 0-shot CoT", $mmlu),
                ("PopQA 15-shot", $popqa),
                ("TruthfulQA 6-shot", $tqa),
                ("BBH 3-shot CoT", $bbh),
                ("DROP 3-shot", $drop),
                ("MATH 4-shot CoT", $math),
                ("GSM8K 8-shot CoT", $gsm),
                ("HumanEval pass@10", $he),
                ("HumanEval+ pass@10", $hep),
                ("IFEval prompt loose", $ife),
                ("AlpacaEval 2 LC % win", $ae),
                ("safety, 6 tasks", $safe),
            ],
        })
    };
    (405: $avg:literal $mmlu:literal $math:literal $gsm:literal $ife:literal $ae:literal) => {
        Some(Scores {
            source: CARD,
            values: &[
                ("average", $avg),
                ("MMLU 5-shot CoT", $mmlu),
                ("MATH", $math),
                ("GSM8K 8-shot CoT", $gsm),
                ("IFEval prompt loose", $ife),
                ("AlpacaEval 2 LC % win", $ae),
            ],
        })
    };
}

const TULU_3_1: Option<Scores> = Some(Scores {
    source: "the model card of Llama-3.1-Tulu-3.1-8B, quoted",
    values: &[("GSM8K 8-shot CoT", 90.0), ("MATH 4-shot CoT", 47.8), ("IFEval prompt loose", 83.9)],
});

/// A model of Tulu 3: (short name, repository, kind, size, configuration, weights, scores).
type Tulu3 = (&'static str, &'static str, ModelKind, &'static str, &'static Config, WeightFormat, Option<Scores>);

use ModelKind::{Dpo, Ppo, Reward, Rlvr, Sft};
use WeightFormat::{Bin, Safetensors, Unknown};

#[rustfmt::skip]
const TULU_3: [Tulu3; 14] = [
    ("tulu-3-8b", "Llama-3.1-Tulu-3-8B", Rlvr, "8B", &TULU_3_8B, Safetensors,
     tulu3!(64.8 68.2 29.1 55.0 66.0 62.6 43.7 87.6 83.9 79.2 82.4 34.5 85.5)),
    ("tulu-3-8b-dpo", "Llama-3.1-Tulu-3-8B-DPO", Dpo, "8B", &TULU_3_8B, Unknown,
     tulu3!(64.4 68.7 29.3 56.1 65.8 62.5 42.0 84.3 83.9 78.6 81.1 33.5 87.2)),
    ("tulu-3-8b-sft", "Llama-3.1-Tulu-3-8B-SFT", Sft, "8B", &TULU_3_8B, Safetensors,
     tulu3!(60.4 65.9 29.3 46.8 67.9 61.3 31.5 76.2 86.2 81.4 72.8 12.4 93.1)),
    ("tulu-3.1-8b", "Llama-3.1-Tulu-3.1-8B", Rlvr, "8B", &TULU_3_8B, Safetensors, TULU_3_1),
    ("tulu-3-70b", "Llama-3.1-Tulu-3-70B", Rlvr, "70B", &TULU_3_70B, Unknown,
     tulu3!(76.0 83.1 46.5 67.6 82.0 74.3 63.0 93.5 92.4 88.0 83.2 49.8 88.3)),
    ("tulu-3-70b-dpo", "Llama-3.1-Tulu-3-70B-DPO", Dpo, "70B", &TULU_3_70B, Unknown,
     tulu3!(75.9 83.3 46.3 67.9 81.8 74.1 62.3 93.5 92.4 88.4 82.6 49.6 89.0)),
    ("tulu-3-70b-sft", "Llama-3.1-Tulu-3-70B-SFT", Sft, "70B", &TULU_3_70B, Unknown,
     tulu3!(72.6 78.9 48.6 55.7 82.7 77.2 53.7 91.1 92.9 87.3 82.1 26.3 94.4)),
    ("tulu-3-405b", "Llama-3.1-Tulu-3-405B", Rlvr, "405B", &TULU_3_405B, Unknown,
     tulu3!(405: 80.7 87.0 67.3 95.5 86.0 51.4)),
    ("tulu-3-405b-dpo", "Llama-3.1-Tulu-3-405B-DPO", Dpo, "405B", &TULU_3_405B, Unknown,
     tulu3!(405: 79.6 86.6 59.9 94.2 85.0 49.8)),
    ("tulu-3-405b-sft", "Llama-3.1-Tulu-3-405B-SFT", Sft, "405B", &TULU_3_405B, Unknown,
     tulu3!(405: 77.5 84.4 63.4 93.6 82.4 30.4)),
    ("tulu-3-8b-sft-no-safety-data", "Llama-3.1-Tulu-3-8B-SFT-no-safety-data", Sft, "8B", &TULU_3_8B, Unknown, None),
    ("tulu-3-8b-rm", "Llama-3.1-Tulu-3-8B-RM", Reward, "8B", &TULU_3_8B, Unknown, None),
    ("tulu-3-70b-rm", "Llama-3.1-Tulu-3-70B-RM", Reward, "70B", &TULU_3_70B, Unknown, None),
    ("tulu-3-405b-rm", "Llama-3.1-Tulu-3-405B-RM", Reward, "405B", &TULU_3_405B, Unknown, None),
];

/// A model with the recipe of Tulu 2 or 2.5: (name, kind, size, configuration, training context, licence, weights).
type OnLlama3 = (&'static str, ModelKind, &'static str, &'static Config, Option<u32>, &'static str, WeightFormat);

#[rustfmt::skip]
const ON_LLAMA_3: [OnLlama3; 12] = [
    // Its config.json has 8129, a slip for 8192.
    ("llama-3-tulu-2-8b", Sft, "8B", &LLAMA_3_8B, Some(8129), APACHE_3, Bin),
    ("llama-3-tulu-2-70b", Sft, "70B", &LLAMA_3_70B, None, APACHE_3, Unknown),
    ("llama-3-tulu-2-dpo-8b", Dpo, "8B", &LLAMA_3_8B, None, APACHE_3, Bin),
    ("llama-3-tulu-2-dpo-70b", Dpo, "70B", &LLAMA_3_70B, None, APACHE_3, Unknown),
    ("llama-3.1-tulu-2-8b", Sft, "8B", &LLAMA_3_1_8B, None, APACHE_3_1, Safetensors),
    ("llama-3.1-tulu-2-70b", Sft, "70B", &LLAMA_3_1_70B, None, APACHE_3_1, Safetensors),
    ("llama-3.1-tulu-2-dpo-8b", Dpo, "8B", &LLAMA_3_1_8B, None, APACHE_3_1, Unknown),
    ("llama-3.1-tulu-2-dpo-70b", Dpo, "70B", &LLAMA_3_1_70B, None, APACHE_3_1, Unknown),
    ("llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm", Ppo, "8B", &LLAMA_3_8B, None, APACHE_3, Safetensors),
    ("llama-3-tulu-2-8b-uf-mean-rm", Reward, "8B", &LLAMA_3_8B, None, APACHE_3, Unknown),
    ("llama-3.1-tulu-2-8b-uf-mean-rm", Reward, "8B", &LLAMA_3_1_8B, None, APACHE_3_1, Unknown),
    ("llama-3.1-tulu-2-70b-uf-mean-rm", Reward, "70B", &LLAMA_3_1_70B, None, APACHE_3_1, Safetensors),
];

/// Returns all entries of this table.
pub(super) fn all() -> impl Iterator<Item = Entry> {
    let tulu_3 = TULU_3.iter().map(|&(name, repository, kind, size, config, weights, scores)| Entry {
        name,
        repository,
        kind,
        size,
        config,
        n_ctx: Some(config.max_position_embeddings),
        licence: LLAMA_3_1,
        weights,
        scores,
    });
    let on_llama_3 = ON_LLAMA_3.iter().map(|&(name, kind, size, config, n_ctx, licence, weights)| Entry {
        name,
        repository: name,
        kind,
        size,
        config,
        n_ctx,
        licence,
        weights,
        scores: None,
    });
    tulu_3.chain(on_llama_3)
}

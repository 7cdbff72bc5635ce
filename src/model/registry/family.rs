//! The table of the models that are derived from Llama 2; those derived from Llama 3 are in `llama3.rs`. Sources: the
//! pages, config.json files and model cards of the repositories on the Hub, and for scores the papers named with them. A
//! fact that is not known is `Unknown` or `None`; the program then reads it from the listing of the repository.

use super::entry::{Entry, ModelKind, Scores, WeightFormat};
use super::shape::shape;
use tulu_quantize::checkpoint::Config;

const IMPACT: &str = "AI2 ImpACT low-risk; Llama 2 Community";
const APACHE: &str = "Apache-2.0; derived from Llama 2 (Community licence)";

/// (width, feed-forward, layers, heads, key-value heads, vocabulary, epsilon)
const fn config(hidden: u32, ffn: u32, layers: u32, heads: u32, kv: u32, vocab: u32, eps: f32) -> Config {
    Config { rms_norm_eps: eps, ..shape(hidden, ffn, layers, heads, kv, vocab) }
}

static S7B: Config = config(4096, 11008, 32, 32, 32, 32_000, 1e-6);
static S13B: Config = config(5120, 13824, 40, 40, 40, 32_000, 1e-6);
static S70B: Config = config(8192, 28672, 80, 64, 8, 32_000, 1e-5);
// Code Llama: 16 more tokens in the vocabulary, except in the 34B model
static CODE_7B: Config = config(4096, 11008, 32, 32, 32, 32_016, 1e-5);
static CODE_13B: Config = config(5120, 13824, 40, 40, 40, 32_016, 1e-5);
static CODE_34B: Config = config(8192, 22016, 48, 64, 8, 32_000, 1e-5);

const P1: &str = "arXiv 2311.10702, tables 1, 4 and 5";
const P2: &str = "arXiv 2406.09279, averages over each group";

macro_rules! tulu2 {
    ($mmlu:literal $gsm:literal $bbh:literal $tydi:literal $code:literal $ae:literal $tox:literal $avg:literal $mt:literal) => {
        Some(Scores {
            source: P1,
            values: &[
                ("MMLU 0-shot", $mmlu),
                ("GSM8k 8-shot CoT", $gsm),
                ("BBH 3-shot CoT", $bbh),
                ("TydiQA F1", $tydi),
                ("Codex-Eval pass@10", $code),
                ("AlpacaEval %", $ae),
                ("ToxiGen % toxic", $tox),
                ("average", $avg),
                ("MT-Bench", $mt),
            ],
        })
    };
}

macro_rules! tulu25 {
    ($fact:literal $reason:literal $code:literal $truth:literal $safe:literal $if:literal $avg:literal) => {
        Some(Scores {
            source: P2,
            values: &[
                ("factuality", $fact),
                ("reasoning", $reason),
                ("coding", $code),
                ("truthfulness", $truth),
                ("safety", $safe),
                ("instruction following", $if),
                ("average", $avg),
            ],
        })
    };
    ($avg:literal) => {
        Some(Scores { source: P2, values: &[("average", $avg)] })
    };
}

type Row = (&'static str, ModelKind, &'static str, &'static Config, Option<u32>, WeightFormat, Option<Scores>);

const TULU_2: [Row; 12] = [
    (
        "tulu-2-7b",
        ModelKind::Sft,
        "7B",
        &S7B,
        Some(8192),
        WeightFormat::Bin,
        tulu2!(50.4 34.0 48.5 46.4 36.9 73.9 7.0 54.7 6.30),
    ),
    (
        "tulu-2-13b",
        ModelKind::Sft,
        "13B",
        &S13B,
        Some(8192),
        WeightFormat::Bin,
        tulu2!(55.4 46.0 49.5 53.2 49.0 78.9 1.7 61.5 6.70),
    ),
    (
        "tulu-2-70b",
        ModelKind::Sft,
        "70B",
        &S70B,
        Some(8192),
        WeightFormat::Bin,
        tulu2!(67.3 73.0 68.4 53.6 68.5 86.6 0.5 73.8 7.49),
    ),
    (
        "tulu-2-dpo-7b",
        ModelKind::Dpo,
        "7B",
        &S7B,
        Some(8192),
        WeightFormat::Bin,
        tulu2!(50.7 34.5 45.5 44.5 40.0 85.1 0.5 56.3 6.27),
    ),
    (
        "tulu-2-dpo-13b",
        ModelKind::Dpo,
        "13B",
        &S13B,
        Some(8192),
        WeightFormat::Both,
        tulu2!(55.3 49.5 49.4 39.7 48.9 89.5 1.1 61.6 7.00),
    ),
    (
        "tulu-2-dpo-70b",
        ModelKind::Dpo,
        "70B",
        &S70B,
        Some(8192),
        WeightFormat::Both,
        tulu2!(67.8 71.5 66.0 35.8 68.9 95.1 0.2 72.1 7.89),
    ),
    ("codetulu-2-7b", ModelKind::Sft, "7B", &CODE_7B, None, WeightFormat::Unknown, None),
    ("codetulu-2-13b", ModelKind::Sft, "13B", &CODE_13B, None, WeightFormat::Unknown, None),
    ("codetulu-2-34b", ModelKind::Sft, "34B", &CODE_34B, None, WeightFormat::Unknown, None),
    ("tulu-v2-qlora-7b", ModelKind::Adapter, "7B", &S7B, None, WeightFormat::Unknown, None),
    ("tulu-v2-qlora-13b", ModelKind::Adapter, "13B", &S13B, None, WeightFormat::Unknown, None),
    ("tulu-v2-qlora-70b", ModelKind::Adapter, "70B", &S70B, None, WeightFormat::Unknown, None),
];

/// A Tulu 2.5 model: (name, weights, scores). All have 13B parameters and a training context of 4096 tokens.
type Policy = (&'static str, WeightFormat, Option<Scores>);

const DPO: [Policy; 17] = [
    ("tulu-v2.5-dpo-13b-uf-mean", WeightFormat::Safetensors, tulu25!(55.3 50.9 45.9 69.3 91.9 52.8 61.0)),
    ("tulu-v2.5-dpo-13b-uf-overall", WeightFormat::Unknown, tulu25!(55.6 48.8 46.5 67.6 92.1 51.1 60.3)),
    ("tulu-v2.5-dpo-13b-nectar", WeightFormat::Unknown, tulu25!(55.3 47.8 43.2 68.2 93.1 47.8 59.2)),
    ("tulu-v2.5-dpo-13b-nectar-60k", WeightFormat::Unknown, tulu25!(58.4)),
    ("tulu-v2.5-dpo-13b-hh-rlhf", WeightFormat::Safetensors, tulu25!(54.7 46.0 43.6 65.6 93.1 45.4 58.1)),
    ("tulu-v2.5-dpo-13b-hh-rlhf-60k", WeightFormat::Unknown, tulu25!(57.8)),
    ("tulu-v2.5-dpo-13b-helpsteer", WeightFormat::Unknown, tulu25!(55.2 48.2 46.5 60.3 92.5 45.2 58.0)),
    ("tulu-v2.5-dpo-13b-stackexchange", WeightFormat::Unknown, tulu25!(55.7 46.8 39.6 67.4 92.6 44.6 57.8)),
    ("tulu-v2.5-dpo-13b-stackexchange-60k", WeightFormat::Unknown, tulu25!(56.7)),
    ("tulu-v2.5-dpo-13b-argilla-orca-pairs", WeightFormat::Unknown, tulu25!(55.5 46.8 46.0 57.9 90.5 46.2 57.2)),
    ("tulu-v2.5-dpo-13b-capybara", WeightFormat::Bin, tulu25!(55.2 46.4 46.4 57.5 91.5 46.1 57.2)),
    ("tulu-v2.5-dpo-13b-alpacafarm-gpt4-pref", WeightFormat::Bin, tulu25!(55.3 49.1 43.4 57.7 89.5 46.3 56.9)),
    ("tulu-v2.5-dpo-13b-alpacafarm-human-pref", WeightFormat::Bin, tulu25!(55.3 47.6 43.3 56.1 90.7 44.5 56.2)),
    ("tulu-v2.5-dpo-13b-shp2", WeightFormat::Unknown, tulu25!(55.4 47.7 40.3 62.2 90.4 45.6 56.9)),
    ("tulu-v2.5-dpo-13b-prm-phase-2", WeightFormat::Safetensors, tulu25!(55.3 49.7 46.6 54.7 91.9 43.4 56.9)),
    ("tulu-v2.5-dpo-13b-chatbot-arena-2023", WeightFormat::Unknown, tulu25!(55.4 50.2 45.9 58.5 67.3 50.8 54.7)),
    ("tulu-v2.5-dpo-13b-chatbot-arena-2024", WeightFormat::Unknown, tulu25!(55.7 50.4 37.7 56.7 58.1 50.7 51.5)),
];

const PPO: [Policy; 9] = [
    ("tulu-v2.5-ppo-13b-uf-mean", WeightFormat::Safetensors, tulu25!(56.0 52.0 47.7 71.5 91.8 54.4 62.2)),
    ("tulu-v2.5-ppo-13b-uf-mean-13b-mix-rm", WeightFormat::Unknown, None),
    ("tulu-v2.5-ppo-13b-uf-mean-70b-mix-rm", WeightFormat::Unknown, None),
    ("tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm", WeightFormat::Unknown, None),
    ("tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm-mixed-prompts", WeightFormat::Unknown, None),
    ("tulu-v2.5-ppo-13b-nectar-60k", WeightFormat::Unknown, tulu25!(58.7)),
    ("tulu-v2.5-ppo-13b-hh-rlhf-60k", WeightFormat::Safetensors, tulu25!(57.9)),
    ("tulu-v2.5-ppo-13b-stackexchange-60k", WeightFormat::Unknown, tulu25!(57.3)),
    ("tulu-v2.5-ppo-13b-chatbot-arena-2023", WeightFormat::Unknown, tulu25!(55.9)),
];

/// Models that generate no text: (name, kind, size, configuration).
const SCORERS: [(&str, ModelKind, &str, &Config); 11] = [
    ("tulu-v2.5-13b-uf-rm", ModelKind::Reward, "13B", &S13B),
    ("tulu-v2.5-13b-preference-mix-rm", ModelKind::Reward, "13B", &S13B),
    ("tulu-v2.5-13b-hh-rlhf-60k-rm", ModelKind::Reward, "13B", &S13B),
    ("tulu-v2.5-13b-nectar-60k-rm", ModelKind::Reward, "13B", &S13B),
    ("tulu-v2.5-13b-stackexchange-60k-rm", ModelKind::Reward, "13B", &S13B),
    ("tulu-v2.5-13b-chatbot-arena-2023-rm", ModelKind::Reward, "13B", &S13B),
    ("tulu-v2.5-70b-uf-rm", ModelKind::Reward, "70B", &S70B),
    ("tulu-v2.5-70b-preference-mix-rm", ModelKind::Reward, "70B", &S70B),
    ("tulu-v2.5-ppo-13b-uf-mean-13b-uf-rm-value", ModelKind::Value, "13B", &S13B),
    ("tulu-v2.5-ppo-13b-uf-mean-13b-mix-rm-value", ModelKind::Value, "13B", &S13B),
    ("tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm-value", ModelKind::Value, "13B", &S13B),
];

/// Returns all entries of this table.
pub(super) fn all() -> impl Iterator<Item = Entry> {
    let older = TULU_2.iter().map(|&(name, kind, size, config, n_ctx, weights, scores)| Entry {
        name,
        repository: name,
        kind,
        size,
        config,
        n_ctx,
        licence: IMPACT,
        weights,
        scores,
    });
    let policies = |rows: &'static [Policy], kind| {
        rows.iter().map(move |&(name, weights, scores)| Entry {
            name,
            repository: name,
            kind,
            size: "13B",
            config: &S13B,
            n_ctx: Some(4096),
            licence: APACHE,
            weights,
            scores,
        })
    };
    let scorers = SCORERS.iter().map(|&(name, kind, size, config)| Entry {
        name,
        repository: name,
        kind,
        size,
        config,
        n_ctx: Some(4096),
        licence: APACHE,
        weights: WeightFormat::Safetensors,
        scores: None,
    });
    older.chain(policies(&DPO, ModelKind::Dpo)).chain(policies(&PPO, ModelKind::Ppo)).chain(scorers)
}

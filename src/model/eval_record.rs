//! The results of an evaluation, as `convert --eval` writes them to the model card, and with `--record` to the metadata of
//! the file: the keys `tulu_quant.eval.*`.

use crate::sanitize::one_line;
use crate::table;
use serde_json::{Value as Json, json};
use tulu_quantize::gguf::{Gguf, Value};

/// Beginning of the keys.
const PREFIX: &str = "tulu_quant.eval.";

/// The results of one file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EvalRecord {
    /// Name of the text.
    pub(crate) text: String,
    /// SHA-256 of the text in hexadecimal.
    pub(crate) text_sha256: String,
    /// Chunks of the text.
    pub(crate) chunks: u32,
    /// Tokens of a chunk.
    pub(crate) context: u32,
    /// Perplexity and its standard error.
    pub(crate) ppl: [f32; 2],
    /// The distance from the base; `None` for the base itself.
    pub(crate) distance: Option<Distance>,
}

/// The distance from the base.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Distance {
    /// Type of the base.
    pub(crate) base: String,
    /// Kullback-Leibler divergence in nats: mean, standard error of the mean, median, 99 %, maximum.
    pub(crate) kl: [f32; 5],
    /// Share of tokens with the same most likely token, 0 to 1.
    pub(crate) same_top: f32,
}

/// Keys of [`Distance::kl`], in its order.
const KL_KEYS: [&str; 5] = ["kl_mean", "kl_mean_error", "kl_median", "kl_p99", "kl_max"];

/// Returns whether the key is one of an evaluation.
pub(crate) fn is_eval_key(key: &str) -> bool {
    key.starts_with(PREFIX)
}

impl EvalRecord {
    /// Returns the key-value pairs.
    pub(crate) fn pairs(&self) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        let mut put = |key: &str, value: Value| all.push((format!("{PREFIX}{key}"), value));
        put("text", Value::Str(self.text.clone()));
        put("text_sha256", Value::Str(self.text_sha256.clone()));
        put("chunks", Value::U32(self.chunks));
        put("context", Value::U32(self.context));
        put("ppl", Value::F32(self.ppl[0]));
        put("ppl_error", Value::F32(self.ppl[1]));
        if let Some(distance) = &self.distance {
            put("base", Value::Str(distance.base.clone()));
            KL_KEYS.iter().zip(distance.kl).for_each(|(key, value)| put(key, Value::F32(value)));
            put("same_top", Value::F32(distance.same_top));
        }
        all
    }

    /// Reads the record of a file; `None` when it has none, or not all of its keys.
    pub(crate) fn of(file: &Gguf) -> Option<Self> {
        let text = |key: &str| file.str(&format!("{PREFIX}{key}")).map(str::to_owned);
        let whole = |key: &str| file.u32(&format!("{PREFIX}{key}"));
        let number = |key: &str| match file.get(&format!("{PREFIX}{key}")) {
            Some(Value::F32(number)) => Some(*number),
            _ => None,
        };
        let distance = || {
            let [mean, error, median, p99, max] = KL_KEYS.map(number);
            let kl = [mean?, error?, median?, p99?, max?];
            Some(Distance { base: text("base")?, kl, same_top: number("same_top")? })
        };
        Some(Self {
            text: text("text")?,
            text_sha256: text("text_sha256")?,
            chunks: whole("chunks")?,
            context: whole("context")?,
            ppl: [number("ppl")?, number("ppl_error")?],
            distance: distance(),
        })
    }

    /// Returns the results on one line.
    pub(crate) fn line(&self) -> String {
        let [ppl, error] = self.ppl;
        let on = format!(
            "({}, {} of {} tokens)",
            one_line(&self.text),
            table::count(u64::from(self.chunks), "chunk", "chunks"),
            self.context
        );
        match &self.distance {
            None => format!("PPL {ppl:.4} ± {error:.4} {on}"),
            Some(Distance { base, kl, same_top }) => format!(
                "PPL {ppl:.4} ± {error:.4}, mean KL divergence {:.5} from {}, same top token {:.1} % {on}",
                kl[0],
                one_line(base),
                100.0 * same_top
            ),
        }
    }

    /// Returns the results as JSON.
    pub(crate) fn json(&self) -> Json {
        let mut out = json!({
            "text": {"name": self.text, "sha256": self.text_sha256}, "n_chunks": self.chunks, "n_ctx": self.context,
            "ppl": {"value": self.ppl[0], "error": self.ppl[1]},
        });
        if let Some(Distance { base, kl: [mean, error, median, p99, max], same_top }) = &self.distance {
            out["base"] = json!(base);
            out["kl"] = json!({"mean": mean, "error": error, "median": median, "p99": p99, "max": max});
            out["same_top"] = json!(same_top);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{Distance, EvalRecord, is_eval_key};
    use tulu_quantize::gguf::{Gguf, encode_header};

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        let distance = Distance { base: "BF16".to_owned(), kl: [0.03, 0.001, 0.01, 0.3, 2.5], same_top: 0.895 };
        let (text, text_sha256) = ("a text".to_owned(), "ab".repeat(32));
        for distance in [None, Some(distance)] {
            let (text, text_sha256) = (text.clone(), text_sha256.clone());
            let record = EvalRecord { text, text_sha256, chunks: 41, context: 512, ppl: [12.5, 0.25], distance };
            assert!(record.pairs().iter().all(|(key, _)| is_eval_key(key)));
            std::fs::write(&path, encode_header(&record.pairs(), &[])).unwrap();
            assert_eq!(EvalRecord::of(&Gguf::open(&path).unwrap()), Some(record.clone()));
            std::fs::write(&path, encode_header(&record.pairs()[1..], &[])).unwrap();
            assert_eq!(EvalRecord::of(&Gguf::open(&path).unwrap()), None);
        }
    }
}

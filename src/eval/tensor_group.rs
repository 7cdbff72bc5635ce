//! Groups of tensors that are swapped together: of one kind in all layers, or of one layer.

use std::collections::BTreeMap;
use tulu_quantize::gguf::TensorInfo;

/// How tensors are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum GroupBy {
    /// By kind: attention values, feed-forward down, …
    Kind,
    /// By layer
    Layer,
    /// By kind and by layer
    All,
}

/// A group of tensors whose type differs between the base and another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorGroup {
    /// Its name, such as `attn_v` or `layer 3`.
    pub(crate) name: String,
    /// Its layer, for a group of one layer.
    pub(crate) layer: Option<u32>,
    /// Names of its tensors.
    pub(crate) tensors: Vec<String>,
    /// Their bytes in the base, each padded as in a file.
    pub(crate) base_bytes: u64,
    /// … in the other file.
    pub(crate) bytes: u64,
}

/// The kinds, in the order of a model. Of each: its name, the beginnings of the names of its tensors, and the pattern of
/// `--tensor-type` that matches these tensors and no others.
const KINDS: [(&str, &[&str], &str); 7] = [
    ("token_embd", &["token_embd."], "^token_embd"),
    ("attn_qk", &["attn_q.", "attn_k."], "attn_[qk]\\."),
    ("attn_v", &["attn_v."], "attn_v\\."),
    ("attn_output", &["attn_output."], "attn_output\\."),
    ("ffn_gate_up", &["ffn_gate.", "ffn_up."], "ffn_(gate|up)\\."),
    ("ffn_down", &["ffn_down."], "ffn_down\\."),
    ("output", &["output."], "^output\\."),
];

/// Returns the pattern of `--tensor-type` for a kind.
pub(crate) fn pattern(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|(name, ..)| *name == kind).map(|(.., pattern)| *pattern)
}

/// Returns layer and rest of a name such as `blk.3.attn_v.weight`.
fn layer_of(name: &str) -> (Option<u32>, &str) {
    let parts = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    match parts.and_then(|(number, rest)| Some((number.parse().ok()?, rest))) {
        Some((layer, rest)) => (Some(layer), rest),
        None => (None, name),
    }
}

/// Returns the groups of the tensors that differ in type: `pairs` are each tensor of the base and that of the same name in
/// the other file; `padded` returns the bytes that a tensor takes in a file.
pub(crate) fn groups(pairs: &[(&TensorInfo, &TensorInfo)], by: GroupBy, padded: fn(u64) -> u64) -> Vec<TensorGroup> {
    // Kinds come before layers.
    let mut all: BTreeMap<(usize, u32), TensorGroup> = BTreeMap::new();
    let mut put = |key: (usize, u32), name: &str, layer: Option<u32>, (base, other): (&TensorInfo, &TensorInfo)| {
        let group = all.entry(key).or_insert_with(|| TensorGroup {
            name: name.to_owned(),
            layer,
            tensors: Vec::new(),
            base_bytes: 0,
            bytes: 0,
        });
        group.tensors.push(base.name.clone());
        group.base_bytes += padded(base.bytes);
        group.bytes += padded(other.bytes);
    };
    for pair in pairs.iter().filter(|(base, other)| base.ggml_type != other.ggml_type) {
        let (layer, rest) = layer_of(&pair.0.name);
        let kind = KINDS.iter().position(|(_, begins, _)| begins.iter().any(|begin| rest.starts_with(begin)));
        if let (Some(kind), GroupBy::Kind | GroupBy::All) = (kind, by) {
            put((kind, 0), KINDS[kind].0, None, *pair);
        }
        if let (Some(layer), GroupBy::Layer | GroupBy::All) = (layer, by) {
            put((KINDS.len(), layer), &format!("layer {layer}"), Some(layer), *pair);
        }
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::{GroupBy, KINDS, groups};
    use tulu_quantize::GgmlType;
    use tulu_quantize::gguf::TensorInfo;

    fn tensor(name: &str, ggml_type: GgmlType, bytes: u64) -> TensorInfo {
        TensorInfo { name: name.to_owned(), dims: vec![256, 1], ggml_type, offset: 0, bytes }
    }

    #[test]
    fn tensors_of_other_types_are_grouped_by_kind_and_by_layer() {
        let names = ["token_embd.weight", "output_norm.weight", "output.weight"].map(str::to_owned);
        let of_layer = |layer: u32| {
            ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
                .map(|kind| format!("blk.{layer}.{kind}.weight"))
        };
        let names: Vec<String> = names.into_iter().chain((0..11).flat_map(of_layer)).collect();
        let base: Vec<_> = names.iter().map(|name| tensor(name, GgmlType::BF16, 512)).collect();
        let kind = |name: &str| if name.contains("norm") { GgmlType::BF16 } else { GgmlType::Q4_K };
        let other: Vec<_> = names.iter().map(|name| tensor(name, kind(name), 144)).collect();
        let pairs: Vec<_> = base.iter().zip(&other).collect();
        let all = groups(&pairs, GroupBy::All, |n| n.next_multiple_of(32));
        let found: Vec<&str> = all.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(found[..KINDS.len()], KINDS.map(|(name, ..)| name));
        assert_eq!(found[KINDS.len()..], (0..11).map(|i| format!("layer {i}")).collect::<Vec<_>>());
        let qk = &all[1];
        assert_eq!((qk.tensors.len(), qk.base_bytes, qk.bytes), (22, 22 * 512, 22 * 160));
        assert_eq!((all[9].layer, all[9].tensors.len()), (Some(2), 7));
        assert_eq!(groups(&pairs, GroupBy::Kind, |n| n).len(), 7);
        assert_eq!(groups(&pairs, GroupBy::Layer, |n| n).len(), 11);
    }
}

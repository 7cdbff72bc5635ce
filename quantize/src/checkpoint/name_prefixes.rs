//! Restores Transformers' tensor names (`model.layers.0.…`, `lm_head.weight`) by removing the prefixes of wrappers: DDP
//! (`module.`), torch.compile (`_orig_mod.`), PEFT (`base_model.model.`), and a model inside another one (`model.`).
//! The tensors of a model that was saved without its head have no prefix; `model.` is added.

use super::shard::SourceTensor;
use std::collections::HashSet;

/// Prefixes that wrappers add, in any order and number.
const WRAPPERS: [&str; 4] = ["module.", "_orig_mod.", "base_model.", "model."];
/// Beginnings of the names inside `model.`.
const INNER: [&str; 3] = ["layers.", "embed_tokens.", "norm."];

/// Renames `tensors` and `unused`, and adds a note about the removed prefix. Unrecognized names stay unchanged.
pub(super) fn remove_prefix<'a>(
    tensors: &'a mut [SourceTensor],
    unused: impl Iterator<Item = &'a mut String>,
    notes: &mut Vec<String>,
) {
    let usual = |name: &str| name == "lm_head.weight" || INNER.iter().any(|part| is_inner(name, "model.", part));
    if tensors.iter().all(|t| usual(&t.name)) {
        return;
    }
    let Some(prefix) = tensors.iter().find_map(|t| t.name.strip_suffix("embed_tokens.weight")).map(str::to_owned)
    else {
        return;
    };
    if prefix == "model." || !is_wrapper(&prefix) {
        return;
    }
    let renamed = |name: &str| {
        let rest = name.strip_prefix(prefix.as_str())?;
        let inner = INNER.iter().any(|part| rest.starts_with(part));
        inner.then(|| format!("model.{rest}"))
    };
    let head = |name: &str| {
        let before = name.strip_suffix("lm_head.weight")?;
        (prefix.starts_with(before)).then(|| "lm_head.weight".to_owned())
    };
    let mut changed = false;
    // two tensors must not get the same name
    let known: HashSet<String> = tensors.iter().map(|t| t.name.clone()).collect();
    for name in tensors.iter_mut().map(|t| &mut t.name).chain(unused) {
        if let Some(new) = head(name).or_else(|| renamed(name)).filter(|new| !known.contains(new)) {
            changed = true;
            *name = new;
        }
    }
    if changed {
        let how = match prefix.as_str() {
            "" => "tensor names have no prefix 'model.'; it is added".to_owned(),
            _ => format!("tensor names begin with '{prefix}', which is replaced by 'model.'"),
        };
        notes.push(how);
    }
}

fn is_inner(name: &str, prefix: &str, part: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(part))
}

fn is_wrapper(mut prefix: &str) -> bool {
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| prefix.strip_prefix(wrapper)) {
        prefix = rest;
    }
    prefix.is_empty()
}

#[cfg(test)]
mod tests {
    use super::remove_prefix;
    use crate::checkpoint::SourceTensor;
    use llama_ext::GgmlType;

    fn tensors(names: &[&str]) -> Vec<SourceTensor> {
        let tensor = |name: &&str| SourceTensor {
            name: (*name).to_owned(),
            dtype: GgmlType::BF16,
            shape: vec![1],
            shard: 0,
            offset: 0,
            bytes: 2,
            strides: None,
        };
        names.iter().map(tensor).collect()
    }

    #[test]
    fn removes_wrapper_prefixes_and_keeps_other_names() {
        const PLAIN: [&str; 4] =
            ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"];
        for (model, head) in [
            ("model.", ""),
            ("module.model.", "module."),
            ("_orig_mod.model.", "_orig_mod."),
            ("module._orig_mod.model.", "module._orig_mod."),
            ("base_model.model.model.", "base_model.model."),
            ("model.model.", "model."),
            ("model.model.", ""),
            ("", ""),
            ("module.", "module."),
        ] {
            let names = PLAIN.map(|name| match name.strip_prefix("model.") {
                Some(rest) => format!("{model}{rest}"),
                None => format!("{head}{name}"),
            });
            let mut tensors = tensors(&names.each_ref().map(String::as_str));
            let mut notes = Vec::new();
            remove_prefix(&mut tensors, std::iter::empty(), &mut notes);
            assert_eq!(tensors.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), PLAIN, "{model}");
            assert_eq!(notes.len(), usize::from(model != "model."), "{model}: {notes:?}");
        }
        let odd = ["other.embed_tokens.weight", "other.norm.weight"];
        let mut tensors = tensors(&odd);
        remove_prefix(&mut tensors, std::iter::empty(), &mut Vec::new());
        assert_eq!(tensors.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), odd);
    }
}

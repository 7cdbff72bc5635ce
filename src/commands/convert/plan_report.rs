//! The plan of a conversion, as text, as a table and as JSON.

use crate::model::streaming::CheckpointSource;
use crate::sanitize::one_line;
use crate::table::{self, Align};
use serde_json::{Value, json};
use tulu_quantize::{Checkpoint, GgmlType, Plan};

/// Returns a summary of the plan in a few lines.
pub(super) fn summary(opened: &CheckpointSource, plan: &Plan, memory: u64) -> String {
    let source = opened.checkpoint();
    let c = &source.config;
    let mut out = format!(
        "{}: {} weights in {} tensors, {} layers of {} with {} heads ({} kv), {} tokens, context {}\n",
        source.name(),
        table::params(plan.n_params),
        plan.tensors.len() + plan.computed.len(),
        c.num_hidden_layers,
        c.hidden_size,
        c.num_attention_heads,
        c.num_key_value_heads,
        c.vocab_size,
        c.max_position_embeddings,
    );
    for o in &plan.outputs {
        #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
        let bpw = o.sizes.iter().sum::<u64>() as f64 * 8.0 / plan.n_params as f64;
        out += &format!("  {:<7} {:>9}  {bpw:.2} bits a weight  {}\n", o.ftype, table::bytes(o.len), o.path.display());
    }
    let [read, disk, memory] = [plan.source_bytes, plan.output_bytes(), memory].map(table::bytes);
    let reads = match opened.remote_name() {
        Some(place) => format!("fetches {read} from {place} and keeps none of it"),
        None => format!("reads {read}"),
    };
    out += &format!("  {reads}, needs {disk} of disk and about {memory} of memory\n");
    if let [first, ..] = plan.skipped.as_slice() {
        out +=
            &format!("  leaves out {} tensors that no loader reads, such as {}\n", plan.skipped.len(), one_line(first));
    }
    for note in source.notes.iter().chain(&plan.notes) {
        out += &format!("tulu-quant: note: {}\n", one_line(note));
    }
    out
}

/// Returns a table with one row per tensor: name, shape, source type, and type and bytes in each output.
pub(super) fn tensor_table(source: &Checkpoint, plan: &Plan) -> String {
    let mut heading = vec!["tensor".to_owned(), "shape".to_owned(), "source".to_owned()];
    let mut align = vec![Align::Left, Align::Right, Align::Left];
    for o in &plan.outputs {
        heading.extend([o.ftype.to_string(), "bytes".to_owned()]);
        align.extend([Align::Left, Align::Right]);
    }
    let mut rows = vec![heading];
    for t in &plan.computed {
        let mut row = vec![t.name.to_owned(), t.weights.len().to_string(), "computed".to_owned()];
        let bytes = (t.weights.len() * size_of::<f32>()).to_string();
        plan.outputs.iter().for_each(|_| row.extend([GgmlType::F32.to_string(), bytes.clone()]));
        rows.push(row);
    }
    for (i, t) in plan.tensors.iter().enumerate() {
        let shape = t.dims.iter().rev().map(u64::to_string).collect::<Vec<_>>().join(" × ");
        let mut row = vec![t.name.clone(), shape, source.tensors[t.source].dtype.to_string()];
        plan.outputs.iter().for_each(|o| row.extend([o.types[i].to_string(), o.sizes[i].to_string()]));
        rows.push(row);
    }
    let mut total = vec!["total (with header)".to_owned(), String::new(), table::bytes(plan.source_bytes)];
    plan.outputs.iter().for_each(|o| total.extend([String::new(), o.len.to_string()]));
    rows.push(total);
    table::render(&align, &rows)
}

/// Returns the plan as JSON: sizes, notes, and every tensor of every output.
pub(super) fn plan_json(opened: &CheckpointSource, plan: &Plan, memory: u64) -> Value {
    let source = opened.checkpoint();
    let place = opened.remote_name().unwrap_or_else(|| source.dir.to_string_lossy().into_owned());
    let outputs: Vec<Value> = plan
        .outputs
        .iter()
        .map(|o| {
            let computed = plan.computed.iter().zip(&o.computed_offsets).map(|(t, offset)| {
                json!({"name": t.name, "shape": t.dims, "source_type": null, "type": GgmlType::F32.name(),
                       "bytes": t.weights.len() * size_of::<f32>(), "offset": offset})
            });
            let read = plan.tensors.iter().enumerate().map(|(i, t)| {
                let shape: Vec<u64> = t.dims.iter().rev().copied().collect();
                json!({"name": t.name, "shape": shape, "source_type": source.tensors[t.source].dtype.name(),
                           "type": o.types[i].name(), "bytes": o.sizes[i], "offset": o.offsets[i]})
            });
            let tensors: Vec<Value> = computed.chain(read).collect();
            json!({"type": o.ftype.name(), "path": o.path.to_string_lossy(), "bytes": o.len, "tensors": tensors})
        })
        .collect();
    let notes: Vec<&String> = source.notes.iter().chain(&plan.notes).collect();
    json!({"source": place, "n_params": plan.n_params, "read_bytes": plan.source_bytes,
           "disk_bytes": plan.output_bytes(), "memory_bytes": memory, "skipped": plan.skipped, "notes": notes, "outputs": outputs})
}

//! The plan of a conversion, as text, as a table and as JSON.

use crate::model::streaming::CheckpointSource;
use crate::sanitize::one_line;
use crate::table::{self, Align};
use serde_json::{Value, json};
use tulu_quantize::{Checkpoint, GgmlType, OutputPlan, Plan};

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
    for parts in by_type(plan) {
        let [first, ..] = parts else { continue };
        #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
        let bpw = plan.tensor_bytes(first.ftype) as f64 * 8.0 / plan.n_params as f64;
        let len = table::bytes(parts.iter().map(|o| o.len).sum());
        let more = if parts.len() > 1 { format!(" and {} more parts", parts.len() - 1) } else { String::new() };
        out += &format!("  {:<7} {len:>9}  {bpw:.2} bits a weight  {}{more}\n", first.ftype, first.path.display());
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

/// Returns the outputs of each type: one file, or the parts of a split one.
fn by_type(plan: &Plan) -> impl Iterator<Item = &[OutputPlan]> {
    plan.outputs.chunk_by(|a, b| a.ftype == b.ftype)
}

/// Returns a table with one row per tensor: name, shape, source type, and type and bytes in each output.
pub(super) fn tensor_table(source: &Checkpoint, plan: &Plan) -> String {
    let mut heading = vec!["tensor".to_owned(), "shape".to_owned(), "source".to_owned()];
    let mut align = vec![Align::Left, Align::Right, Align::Left];
    for parts in by_type(plan) {
        heading.extend(parts.first().map(|o| o.ftype.to_string()).into_iter().chain(["bytes".to_owned()]));
        align.extend([Align::Left, Align::Right]);
    }
    let mut rows = vec![heading];
    for t in &plan.computed {
        let mut row = vec![t.name.to_owned(), t.weights.len().to_string(), "computed".to_owned()];
        let bytes = (t.weights.len() * size_of::<f32>()).to_string();
        by_type(plan).for_each(|_| row.extend([GgmlType::F32.to_string(), bytes.clone()]));
        rows.push(row);
    }
    for (i, t) in plan.tensors.iter().enumerate() {
        let shape = t.dims.iter().rev().map(u64::to_string).collect::<Vec<_>>().join(" × ");
        let mut row = vec![t.name.clone(), shape, source.tensors[t.source].dtype.to_string()];
        let here =
            |parts: &[OutputPlan]| parts.iter().find(|o| o.tensors.contains(&i)).map(|o| (o.types[i], o.sizes[i]));
        by_type(plan).filter_map(here).for_each(|(kind, size)| row.extend([kind.to_string(), size.to_string()]));
        rows.push(row);
    }
    let mut total = vec!["total (with header)".to_owned(), String::new(), table::bytes(plan.source_bytes)];
    let len = |parts: &[OutputPlan]| parts.iter().map(|o| o.len).sum::<u64>().to_string();
    by_type(plan).for_each(|parts| total.extend([String::new(), len(parts)]));
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
            let here = plan.tensors.iter().enumerate().filter(|(i, _)| o.tensors.contains(i));
            let read = here.map(|(i, t)| {
                let shape: Vec<u64> = t.dims.iter().rev().copied().collect();
                json!({"name": t.name, "shape": shape, "source_type": source.tensors[t.source].dtype.name(),
                           "type": o.types[i].name(), "bytes": o.sizes[i], "offset": o.offsets[i]})
            });
            let tensors: Vec<Value> = computed.chain(read).collect();
            json!({"type": o.ftype.name(), "path": o.path.to_string_lossy(), "part": o.part, "bytes": o.len,
                   "tensors": tensors})
        })
        .collect();
    let notes: Vec<&String> = source.notes.iter().chain(&plan.notes).collect();
    json!({"source": place, "n_params": plan.n_params, "read_bytes": plan.source_bytes,
           "disk_bytes": plan.output_bytes(), "memory_bytes": memory, "skipped": plan.skipped, "notes": notes, "outputs": outputs})
}

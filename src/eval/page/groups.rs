//! The divergence that each group of tensors alone causes, as bars.

use super::text::escape;
use crate::eval::report::{Entry, GroupEntry, Report};
use std::fmt::Write as _;

/// Returns the sections for each file whose tensors were swapped: by kind and by layer.
pub(super) fn sections(report: &Report) -> String {
    let mut out = String::new();
    for (index, entry) in report.entries.iter().enumerate() {
        let groups: Vec<&GroupEntry> = report.groups.iter().filter(|one| one.file == Some(index)).collect();
        let (layers, kinds): (Vec<&GroupEntry>, Vec<&GroupEntry>) =
            groups.into_iter().partition(|one| one.group.layer.is_some());
        out += &section("kind of tensor", entry, &kinds);
        out += &section("layer", entry, &layers);
    }
    if out.is_empty() {
        return out;
    }
    out + "<p>Each bar is the base with these tensors of the file and all others its own. Percentages are of the whole \
           file&#39;s mean KL divergence.</p>"
}

fn section(by: &str, entry: &Entry, groups: &[&GroupEntry]) -> String {
    if groups.is_empty() {
        return String::new();
    }
    let kl = |one: &GroupEntry| one.divergence.kl.value.max(0.0);
    let largest = groups.iter().map(|one| kl(one)).fold(f64::MIN_POSITIVE, f64::max);
    let whole = entry.divergence.as_ref().map(|divergence| divergence.kl.value).filter(|whole| *whole > 0.0);
    let mut out = format!("<h2>Mean KL divergence by {by}: {}</h2><table class=\"bars\">", escape(&entry.name()));
    for one in groups {
        let share = whole.map_or_else(String::new, |whole| format!("{:.1} %", 100.0 * kl(one) / whole));
        let _ = write!(
            out,
            "<tr><th>{}</th><td class=\"bar\"><div style=\"width:{:.1}%\"></div></td><td>{:.5}</td><td>{share}</td></tr>",
            escape(&one.group.name),
            100.0 * kl(one) / largest,
            kl(one),
        );
    }
    out + "</table>"
}

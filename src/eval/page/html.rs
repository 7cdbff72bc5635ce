//! The page.

use super::details::Details;
use super::groups;
use super::plot::{Axes, Series, lines, scatter};
use super::text::escape;
use crate::eval::report::{Entry, Report};
use crate::table;
use std::fmt::Write as _;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1a1a1a;--soft:#5c5c5c;--paper:#fff;--rule:#d5d5d5;--mark:#0b5cad}\
@media(prefers-color-scheme:dark){:root{--ink:#e8e8e8;--soft:#a8a8a8;--paper:#161616;--rule:#3c3c3c;--mark:#7ab8f5}}\
body{margin:0 auto;max-width:76rem;padding:1rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}\
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}p{margin:.4rem 0;color:var(--soft)}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.875rem}\
th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}\
th:first-child,td:first-child{text-align:left}td.text{text-align:left;white-space:normal;min-width:9rem;\
overflow-wrap:anywhere}.wide td:first-child:not(.text),.wide th:first-child{position:sticky;left:0;background:var(--paper)}mark{background:none;color:inherit;font-weight:700;text-decoration:underline}\
svg{width:100%;max-width:46rem;height:auto;display:block;font:13px system-ui,sans-serif}svg text{fill:var(--ink);paint-order:stroke;stroke:var(--paper);stroke-width:3px}svg .tick{fill:var(--soft)}\
svg .strong{font-weight:700}svg .axis{fill:none;stroke:var(--ink)}svg .grid{stroke:var(--rule)}\
svg .front,svg .series{fill:none;stroke:var(--mark);stroke-width:1.8}svg .mark{fill:var(--paper);stroke:var(--mark);\
stroke-width:1.8}svg .filled{fill:var(--mark)}\
.bars{width:100%}.bars th{font-weight:400;text-align:left}.bars .bar{width:100%;padding-left:0}.bars .bar div{\
background:var(--mark);height:.8rem;min-width:1px}\
@media(max-width:40rem){svg{font-size:16px}th,td{padding:.3rem .35rem}}";

/// Returns the page. `details` has an element for each entry that was compared with the base.
pub(crate) fn page(report: &Report, details: &[(usize, Details)]) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>What quantization costs</title><style>{STYLE}</style>\
         </head><body><main><h1>What quantization costs</h1><p>{}</p>",
        escape(&report.summary())
    );
    out += &table_of(report);
    out += "<p>PPL: perplexity, lower is better. KL: divergence of the next token&#39;s distribution from the base&#39;s, in \
            nats, 0 is equal. Same top: share of tokens with the same most likely token. RMS Δp: root of the mean square of \
            the difference of the token&#39;s probability.</p>";
    out += &trade_off(report);
    out += &by_position(report, details);
    out += &groups::sections(report);
    out += &worst(report, details);
    out + "</main></body></html>\n"
}

fn table_of(report: &Report) -> String {
    let (_, rows) = report.rows();
    // What decides comes first, so that it is seen on a phone, too.
    let heading = rows.first().map_or(&[][..], Vec::as_slice);
    let first =
        ["file", "size", "KL mean", "same top", "PPL"].map(|name| heading.iter().position(|other| other == name));
    let mut order: Vec<usize> = first.into_iter().flatten().collect();
    order.extend((0..heading.len()).filter(|column| !first.contains(&Some(*column))));
    let mut out = "<h2>Results</h2><div class=\"wide\"><table>".to_owned();
    for (i, row) in rows.iter().enumerate() {
        let cell = if i == 0 { "th" } else { "td" };
        let cells = order.iter().filter_map(|column| row.get(*column));
        let cells: Vec<String> = cells.map(|text| format!("<{cell}>{}</{cell}>", escape(text))).collect();
        let _ = write!(out, "<tr>{}</tr>", cells.concat());
    }
    out + "</table></div>"
}

/// Returns the part of a name that distinguishes it from the others, for labels: without the words that all begin with.
fn labels(names: &[String]) -> Vec<String> {
    let common = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let shared = match names {
        [first, others @ ..] if !others.is_empty() => {
            let len = others.iter().map(|other| common(first, other)).min().unwrap_or(0);
            first.as_bytes()[..len].iter().rposition(|byte| *byte == b'-').map_or(0, |at| at + 1)
        }
        _ => 0,
    };
    names.iter().map(|name| name.get(shared..).filter(|rest| !rest.is_empty()).unwrap_or(name).to_owned()).collect()
}

/// Size and mean divergence of the entries that were compared.
fn compared(report: &Report) -> Vec<(&Entry, (f64, f64))> {
    let point = |entry: &'_ Entry| Some((entry.bytes as f64, entry.divergence.as_ref()?.kl.value));
    report.entries.iter().filter_map(|entry| Some((entry, point(entry)?))).collect()
}

/// Draws size against divergence. The Pareto front has the files for which no other is smaller and nearer to the base.
fn trade_off(report: &Report) -> String {
    let all = compared(report);
    if all.is_empty() {
        return String::new();
    }
    let better = |(bytes, kl): (f64, f64), than: (f64, f64)| bytes <= than.0 && kl <= than.1 && (bytes, kl) != than;
    let mut front: Vec<(f64, f64)> = all
        .iter()
        .map(|(_, point)| *point)
        .filter(|point| !all.iter().any(|(_, other)| better(*other, *point)))
        .collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    let names = labels(&all.iter().map(|(entry, _)| entry.name()).collect::<Vec<_>>());
    let series: Vec<Series> =
        names.into_iter().zip(&all).map(|(name, (_, point))| Series { name, points: vec![*point] }).collect();
    let axes =
        Axes { x: "size of the file", y: "mean KL divergence", format_x: |bytes| table::bytes(bytes.max(0.0) as u64) };
    format!(
        "<h2>Size and mean KL divergence</h2>{}<p>Lower and further left is better. Filled marks and the line: the Pareto \
         front, files for which no other one is smaller and nearer to the base.</p>",
        scatter(&series, &front, &axes)
    )
}

fn by_position(report: &Report, details: &[(usize, Details)]) -> String {
    let of = |(index, details): &(usize, Details)| {
        let name = report.entries.get(*index)?.name();
        let points = details.positions.iter().map(|(at, kl)| (*at as f64, *kl)).collect();
        Some(Series { name, points })
    };
    let mut series: Vec<Series> = details.iter().filter_map(of).filter(|series| series.points.len() > 1).collect();
    if series.is_empty() {
        return String::new();
    }
    let names = labels(&series.iter().map(|series| series.name.clone()).collect::<Vec<_>>());
    series.iter_mut().zip(names).for_each(|(series, name)| series.name = name);
    let axes = Axes { x: "position in the chunk", y: "mean KL divergence", format_x: |at| format!("{at:.0}") };
    format!("<h2>Mean KL divergence by position</h2>{}", lines(&series, &axes))
}

/// Returns a token with spaces as symbols, if it has nothing else.
fn visible_token(token: &str) -> String {
    match token {
        "" => "(empty)".to_owned(),
        spaces if spaces.chars().all(|c| c == ' ') => spaces.replace(' ', "␣"),
        other => other.to_owned(),
    }
}

/// Formats a probability: small ones as powers of ten.
fn probability(p: f64) -> String {
    if p >= 0.001 { format!("{p:.3}") } else { format!("{p:.0e}") }
}

fn worst(report: &Report, details: &[(usize, Details)]) -> String {
    let mut out = String::new();
    for (index, details) in details {
        let Some(entry) = report.entries.get(*index) else { continue };
        let _ = write!(
            out,
            "<h2>Largest divergence: {}</h2><div class=\"wide\"><table><tr><th>text, and the token</th><th>KL</th>\
             <th>p, base</th><th>p</th></tr>",
            escape(&entry.name())
        );
        for token in &details.worst {
            let _ = write!(
                out,
                "<tr><td class=\"text\">{}<mark>{}</mark></td><td>{:.3}</td><td>{}</td><td>{}</td></tr>",
                escape(&token.before),
                escape(&visible_token(&token.token)),
                token.kl,
                probability(token.p_base),
                probability(token.p)
            );
        }
        out += "</table></div>";
    }
    if out.is_empty() {
        return out;
    }
    out + "<p>KL is the divergence of the whole distribution before the underlined token, p the probability of that token.</p>"
}

#[cfg(test)]
mod tests {
    use super::{labels, probability};

    #[test]
    fn labels_leave_out_what_all_names_begin_with() {
        let of = |names: &[&str]| labels(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["a-7b-Q4_0", "a-7b-Q4_K_M", "a-7b-Q8_0 KV q8_0"]), ["Q4_0", "Q4_K_M", "Q8_0 KV q8_0"]);
        assert_eq!(of(&["a-7b", "a-7b-x"]), ["7b", "7b-x"]);
        assert_eq!(of(&["é-1", "è-2"]), ["é-1", "è-2"]);
        assert_eq!(of(&["alone-1"]), ["alone-1"]);
        assert_eq!(of(&["same-", "same-"]), ["same-", "same-"]);
    }

    #[test]
    fn small_probabilities_are_powers_of_ten() {
        assert_eq!([0.5, 0.001, 0.000_004_2].map(probability), ["0.500", "0.001", "4e-6"]);
    }
}

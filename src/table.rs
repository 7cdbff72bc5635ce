//! Tables and numbers for people. Scripts use `--json`.

/// The alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Formats rows as columns, two spaces apart. The first row is the heading.
pub(crate) fn render(align: &[Align], rows: &[Vec<String>]) -> String {
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..align.len()).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(align.iter().zip(&widths))
            .map(|(cell, (align, width))| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// Formats bytes in powers of 1000, as file managers and the Hub do: `7.87 GB`, `512.0 MB`, `3.1 kB`, `12 B`.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        1_000_000_000..100_000_000_000 => format!("{:.2} GB", n as f64 / 1e9),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

/// Formats bytes of memory in powers of 1024: `13.25 GiB`.
#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(crate) fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Formats a count with the singular or the plural: `1 record`, `2 records`.
pub(crate) fn count(n: impl TryInto<u64>, one: &str, several: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    format!("{n} {}", if n == 1 { one } else { several })
}

/// Formats a count of parameters: `13.02 B`, `5.8 M`.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn params(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{:.1} K", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        1_000_000_000..100_000_000_000 => format!("{:.2} B", n as f64 / 1e9),
        _ => format!("{:.1} B", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::{Align, bytes, count, render};

    #[test]
    fn columns_line_up_and_lines_do_not_trail() {
        let rows = [vec!["a".into(), "n".into()], vec!["long".into(), "10".into()]];
        assert_eq!(render(&[Align::Left, Align::Right], &rows), "a      n\nlong  10\n");
    }

    #[test]
    fn words_agree_with_numbers() {
        let files = |n: u64| count(n, "file", "files");
        assert_eq!([0, 1, 2].map(files), ["0 files", "1 file", "2 files"]);
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        assert_eq!([12, 3_100, 512_000_000, 7_865_000_000].map(bytes), ["12 B", "3.1 kB", "512.0 MB", "7.87 GB"]);
    }
}

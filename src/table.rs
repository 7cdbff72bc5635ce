//! Plain tables for people, and numbers as people read them. Machines get `--json`.

/// Left or right, for each column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows in columns two spaces apart; the first row is the heading.
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

/// `7.87 GB`, `512.0 MB`, `3.1 kB`, `12 B`: powers of 1000, as file managers and the Hub count.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// `13.25 GiB`: memory, in powers of 1024.
#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(crate) fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

/// `1 record`, `2 records`: how many of what, with the word as it is for one and for several.
pub(crate) fn count(n: impl TryInto<u64>, one: &str, several: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    format!("{n} {}", if n == 1 { one } else { several })
}

/// `13.02 B`, `5.8 M`: weights.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn params(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{:.1} K", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} B", n as f64 / 1e9),
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

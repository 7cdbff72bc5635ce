//! Progress bars on terminals of several widths: one line each, in decimal units.

use crate::support::checkpoint::bundled;
use crate::support::screen::Terminal;
use crate::support::tulu_quant;

#[test]
fn bar_fits_one_line_of_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = bundled();
    for columns in [120, 80, 60, 40, 20] {
        let mut command = tulu_quant();
        command.arg("convert").arg(&checkpoint).args([
            "-q",
            "Q4_K_M",
            "--force",
            "--reference-kernels",
            "-t",
            "1",
            "-o",
        ]);
        command.arg(folder.path());
        let mut terminal = Terminal::new(command, 30, columns);
        assert_eq!(terminal.ended(), 0);
        let text = String::from_utf8_lossy(&terminal.raw).into_owned();
        // Each bar begins with a carriage return.
        let bars: Vec<String> =
            text.split(['\r', '\n']).map(plain).filter(|part| part.starts_with("converting")).collect();
        assert!(!bars.is_empty(), "{text:?}");
        for bar in &bars {
            assert!(bar.trim_end().chars().count() < usize::from(columns), "{columns}: {bar}");
            assert!(columns < 40 || bar.contains("/11.0 MB") && !bar.contains("iB"), "{columns}: {bar}");
        }
        // At the end no bar is left.
        assert!(!terminal.screen().contains("converting"), "{}", terminal.screen());
    }
}

/// The text without the sequences that move the cursor.
fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| {
        all + part.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).get(1..).unwrap_or_default()
    })
}

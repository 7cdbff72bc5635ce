//! The checks: circles, arrows between rooms, lengths of files.

use crate::uses::Arrows;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// Files that use each other, and the names that tie them.
pub(crate) struct Circle {
    files: BTreeSet<String>,
    ties: Vec<String>,
}

impl Circle {
    /// Whether one of `files` is in it.
    pub(crate) fn has_any(&self, files: &[&str]) -> bool {
        files.iter().any(|file| self.files.contains(*file))
    }
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "circle of {} files:", self.files.len())?;
        self.ties.iter().try_for_each(|tie| writeln!(f, "  {tie}"))
    }
}

/// Returns every set of files that reach each other along arrows (strongly connected components of two and more files).
pub(crate) fn circles(arrows: &Arrows) -> Vec<Circle> {
    let reach = |from: &str| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(file) = open.pop() {
            for next in arrows.get(&file).into_iter().flat_map(|to| to.keys()) {
                if reached.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        reached
    };
    let mut circles: Vec<Circle> = Vec::new();
    for file in arrows.keys() {
        let reached = reach(file);
        if !reached.contains(file) || circles.iter().any(|circle| circle.files.contains(file)) {
            continue;
        }
        let files: BTreeSet<String> = reached.into_iter().filter(|other| reach(other).contains(file)).collect();
        let inside = arrows.iter().filter(|(from, _)| files.contains(*from));
        let ties = inside.flat_map(|(from, to)| to.iter().map(move |(to, names)| (from, to, names)));
        let ties =
            ties.filter(|(_, to, _)| files.contains(*to)).map(|(from, to, names)| tie(from, to, names)).collect();
        circles.push(Circle { files, ties });
    }
    circles
}

/// Returns the arrows to a room that is not on a lower floor, and the files whose room is on no floor.
pub(crate) fn upward(arrows: &Arrows, floors: &[&[&str]]) -> Vec<String> {
    let floor = |file: &str| floors.iter().position(|rooms| rooms.contains(&room(file)));
    let mut wrong: Vec<String> =
        arrows.keys().filter(|file| floor(file).is_none()).map(|file| format!("{file} is on no floor")).collect();
    for (from, to, names) in arrows.iter().flat_map(|(from, to)| to.iter().map(move |(to, names)| (from, to, names))) {
        if room(from) != room(to) && floor(from) >= floor(to) {
            wrong.push(tie(from, to, names));
        }
    }
    wrong
}

/// Returns the source files of `folders` in `root` with more than `max` lines, and their lengths. Skips `vendor/crates`, which
/// `vendor/offline.sh` makes.
pub(crate) fn longer_than(root: &Path, folders: &[&str], max: usize) -> Vec<(String, usize)> {
    let mut long = Vec::new();
    let mut open: Vec<String> = folders.iter().map(|folder| (*folder).to_owned()).collect();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).unwrap_or_else(|err| panic!("{folder}: {err}")) {
            let entry = entry.expect("the folder can be listed");
            let name = entry.file_name().into_string().expect("names are UTF-8");
            let path = format!("{folder}/{name}");
            match name.rsplit_once('.') {
                _ if entry.path().is_dir() && name != "crates" => open.push(path),
                Some((_, "rs" | "cpp" | "h")) => {
                    let lines = std::fs::read_to_string(entry.path()).expect("source is UTF-8").lines().count();
                    if lines > max {
                        long.push((path, lines));
                    }
                }
                _ => {}
            }
        }
    }
    long
}

/// Returns the room of a file: its folder or file name in `src/` without `.rs`, or the folder of another crate.
fn room(file: &str) -> &str {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    inside.split(['/', '.']).next().unwrap_or(inside)
}

fn tie(from: &str, to: &str, names: &BTreeSet<String>) -> String {
    format!("{from} -> {to}: {}", names.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
}

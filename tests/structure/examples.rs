//! Tests of the checks on made-up workspaces.

use crate::checks::{circles, longer_than, upward};
use crate::modules::Tree;
use crate::uses::{Arrows, arrows};

/// The arrows of a crate with these files (name in `src/`, text).
fn of(files: &[(&str, &str)]) -> Arrows {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join("src").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    arrows(&Tree::read(folder.path(), &[("made", "src/main.rs")]))
}

/// The arrows as `from -> to: names`, without `src/`.
fn listed(files: &[(&str, &str)]) -> Vec<String> {
    let arrows = of(files);
    let all =
        arrows.iter().flat_map(|(from, to)| to.iter().map(move |(to, names)| format!("{from} -> {to}: {names:?}")));
    all.map(|arrow| arrow.replace("src/", "").replace(['{', '}', '"'], "")).collect()
}

#[test]
fn finds_a_circle_of_three_files_and_names_its_ties() {
    let circles = circles(&of(&[
        ("main.rs", "mod a; mod b; mod c; mod d; fn main() { a::f() }"),
        ("a.rs", "use crate::b::g; pub fn f() { g() } pub struct A;"),
        ("b.rs", "pub fn g() { super::c::h() }"),
        ("c.rs", "pub fn h() { let _ = crate::a::A; d(); } use crate::d::d;"),
        ("d.rs", "pub fn d() {}"),
    ]));
    assert_eq!(circles.len(), 1);
    let expected =
        "circle of 3 files:\n  src/a.rs -> src/b.rs: g\n  src/b.rs -> src/c.rs: h\n  src/c.rs -> src/a.rs: A\n";
    assert_eq!(circles[0].to_string(), expected);
    assert!(circles[0].has_any(&["src/b.rs"]) && !circles[0].has_any(&["src/d.rs"]));
}

#[test]
fn a_parent_that_defines_what_its_child_uses_is_a_circle_and_a_facade_is_not() {
    let child = "use super::Shared; pub fn f(_: Shared) {}";
    let parent = |text: &str| {
        circles(&of(&[
            ("main.rs", "mod p;"),
            ("p/mod.rs", text),
            ("p/c.rs", child),
            ("p/shared.rs", "pub struct Shared;"),
        ]))
    };
    assert_eq!(parent("mod c; pub struct Shared; pub fn g() { c::f(Shared) }").len(), 1);
    assert_eq!(parent("mod c; mod shared; pub use c::f; pub use shared::Shared; pub fn g() { f(Shared) }").len(), 0);
}

#[test]
fn looks_through_reexports_globs_and_other_crates() {
    let files = [
        ("main.rs", "mod facade; mod user;"),
        ("facade/mod.rs", "mod deep; pub(crate) use deep::*; pub(crate) use deep as other;"),
        ("facade/deep.rs", "pub enum Kind { One } pub const N: u32 = 1; pub fn kind() {}"),
        (
            "user.rs",
            "use crate::facade::{self, Kind::One, other as o}; fn f() { facade::kind(); o::N; made::facade::N; }",
        ),
    ];
    assert_eq!(listed(&files), ["user.rs -> facade/deep.rs: N, One, kind"]);
}

#[test]
fn counts_a_reexport_of_another_crate_as_defined_there_and_finds_items_of_macros() {
    let files = [
        ("main.rs", "mod engine; mod user;"),
        ("engine/mod.rs", "mod own; pub use other_crate::Token; make! { #[derive(Debug)] pub enum Code { A } }"),
        ("engine/own.rs", "pub fn f(_: super::Token) {}"),
        ("user.rs", "use std::fmt; use crate::engine::Token; fn f(code: crate::engine::Code) {}"),
    ];
    assert_eq!(listed(&files), ["engine/own.rs -> engine/mod.rs: Token", "user.rs -> engine/mod.rs: Code, Token"]);
}

#[test]
#[should_panic(expected = "src/a.rs: cannot resolve crate::b::missing")]
fn fails_on_a_path_that_it_cannot_resolve() {
    of(&[("main.rs", "mod a; mod b;"), ("a.rs", "fn f() { crate::b::missing() }"), ("b.rs", "")]);
}

#[test]
fn finds_names_in_macros_attributes_types_and_blocks() {
    let files = [
        ("main.rs", "mod a; mod b; mod c; mod d; mod e; mod f;"),
        ("a.rs", "fn f(x: X) { println!(\"{}\", vec![crate::b::N]); x.n; } struct X { n: crate::c::T<crate::f::F> }"),
        ("b.rs", "pub const N: u32 = 1; #[arg(default_value_t = crate::d::D)] struct S;"),
        ("c.rs", "pub struct T<X>(X); fn f() { use super::e::deep; deep::g() }"),
        ("d.rs", "pub const D: u32 = 1; fn own() { let n = 1; n; }"),
        ("e.rs", "pub mod deep { pub fn g() { super::h() } } pub fn h() {}"),
        ("f.rs", "pub struct F;"),
    ];
    let expected = ["a.rs -> b.rs: N", "a.rs -> c.rs: T", "a.rs -> f.rs: F", "b.rs -> d.rs: D", "c.rs -> e.rs: g"];
    assert_eq!(listed(&files), expected);
}

#[test]
fn leaves_out_what_is_compiled_only_for_tests() {
    let files = [
        ("main.rs", "mod a; mod b;"),
        (
            "a.rs",
            "#[cfg(test)] use crate::b::f; #[cfg(test)] mod tests; #[cfg(all(unix, test))] fn g() { crate::b::f() }",
        ),
        ("b.rs", "pub fn f() {} #[cfg(not(test))] use crate::a::X; #[cfg(test)] mod tests { use crate::a::Y; }"),
    ];
    let a = files[1].1.to_owned() + "pub struct X; pub struct Y;";
    assert_eq!(listed(&[files[0], ("a.rs", &a), files[2]]), ["b.rs -> a.rs: X"]);
}

#[test]
fn rooms_may_only_use_rooms_of_lower_floors() {
    let arrows = of(&[
        ("main.rs", "mod top; mod side; mod low; fn main() { top::f() }"),
        ("top/mod.rs", "mod own; pub fn f() { own::g(); crate::low::h() }"),
        ("top/own.rs", "pub fn g() {}"),
        ("side.rs", "use crate::top::f;"),
        ("low.rs", "pub fn h() {}"),
    ]);
    let floors: &[&[&str]] = &[&["main"], &["top", "side"]];
    let wrong = upward(&arrows, floors);
    assert_eq!(
        wrong,
        ["src/low.rs is on no floor", "src/side.rs -> src/top/mod.rs: f", "src/top/mod.rs -> src/low.rs: h"]
    );
}

#[test]
fn finds_long_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("a/crates")).unwrap();
    for (name, lines) in [("a/long.rs", 4), ("a/short.cpp", 3), ("a/crates/long.rs", 9), ("a/long.md", 9)] {
        std::fs::write(folder.path().join(name), "\n".repeat(lines)).unwrap();
    }
    assert_eq!(longer_than(folder.path(), &["a"], 3), [("a/long.rs".to_owned(), 4)]);
}

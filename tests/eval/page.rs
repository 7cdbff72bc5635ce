//! The page of `eval --html`: well formed, without the network, and with every untrusted text escaped.

use super::{command, json_of, model};
use std::fs;

/// Names of elements that have no end.
const VOID: [&str; 1] = ["meta"];

/// Checks that elements end in the order in which they began, and returns the elements' tags.
fn tags(html: &str) -> Vec<String> {
    let mut rest = html.strip_prefix("<!doctype html>").expect("a doctype");
    let (mut open, mut all): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    while let Some((text, after)) = rest.split_once('<') {
        assert!(!text.contains('>') || open.last().is_some_and(|name| name == "style"), "'>' in {text}");
        let (tag, after) = after.split_once('>').expect("the end of a tag");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap().to_owned();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name.as_str()), "{tag}");
        } else {
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
                open.push(name);
            }
            all.push(tag.to_owned());
        }
        rest = after;
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    all
}

#[test]
fn the_page_is_well_formed_and_untrusted_text_is_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("<img src=x onerror=alert(1)>.txt");
    let hostile =
        "</td><script src=\"https://example.org/x.js\">alert('1')</script>\u{1b}[31m\u{202e} & <b onclick=\"x\">\n";
    fs::write(&text, hostile.repeat(60)).unwrap();
    let file = folder.path().join("<i>Q4_0 & co.gguf");
    fs::copy(model("Q4_0"), &file).unwrap();
    let page = folder.path().join("page.html");
    let mut eval = command("eval", folder.path());
    eval.arg("--base").arg(model("BF16")).arg(&file).arg(model("Q8_0")).arg("-f").arg(&text);
    let all = json_of(eval.args(["-c", "128", "--chunks", "4", "--by-tensor=layer", "--html"]).arg(&page));
    assert_eq!(all["files"].as_array().unwrap().len(), 3);
    let html = fs::read_to_string(page).unwrap();
    let tags = tags(&html);
    let known = [
        "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "div", "table", "tr", "th", "td",
        "mark", "svg", "path", "text", "circle",
    ];
    for tag in &tags {
        let name = tag.split([' ', '/']).next().unwrap();
        assert!(known.contains(&name), "{tag}");
        assert!(!tag.contains(" on") && !tag.contains("href") && !tag.contains("src"), "{tag}");
    }
    for reference in ["url(", "@import", "javascript:"] {
        assert!(!html.contains(reference), "{reference}");
    }
    // What was escaped is there, and characters that a terminal or a browser acts on are not.
    assert!(html.contains("&lt;script src=") && html.contains("&lt;i&gt;Q4_0 &amp; co"), "{html}");
    assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;.txt"));
    assert!(!html.contains(['\u{1b}', '\u{202e}']));
    // Every drawing has a name for those who do not see it.
    for svg in tags.iter().filter(|tag| tag.starts_with("svg")) {
        assert!(svg.contains("role=\"img\"") && svg.contains("aria-label=\""), "{svg}");
    }
    assert_eq!(tags.iter().filter(|tag| tag.starts_with("svg")).count(), 2);
    assert!(html.contains("Mean KL divergence by layer: &lt;i&gt;Q4_0"));
}

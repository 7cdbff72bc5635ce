//! The page at `/` in a real browser. `TULU_QUANT_BROWSER` is its program, `TULU_QUANT_SCREENSHOTS` a folder for pictures.

use crate::support::browser::Browser;
use crate::support::serve::{ENDLESS, Server, chat_body};
use serde_json::{Value, json};
use std::io::Write as _;

/// What a hostile model might write.
const HOSTILE: &str = "# Title\n\n<img src=x onerror=\"window.hit = 1\"> <script>window.hit = 1</script>\n\n\
    [link](javascript:window.hit=1) ![picture](x\" onerror=\"window.hit=1) **bold <b>not</b>**\n\n\
    ```html\n<img src=x onerror=window.hit=1>\n</code></pre><script>window.hit=1</script>\n```\n\n\
    | a | b |\n|---|---|\n| <svg onload=window.hit=1> | `<i>x</i>` |\n\n- one\n- two";

const LAST_ANSWER: &str = "document.querySelector('#talk .assistant:last-child .text')?.innerText";

fn open(server: &Server, size: (u32, u32)) -> Browser {
    let mut browser = Browser::open(&format!("http://{}/", server.address), size);
    browser.wait("document.querySelector('#talk .empty').innerText.includes('is ready')");
    browser
}

/// Clicks the button with this text in the last turn of `role`.
fn click_tool(browser: &mut Browser, role: &str, text: &str) {
    browser.eval(&format!(
        "[...document.querySelectorAll('#talk .{role} button')].filter((b) => b.textContent === '{text}').at(-1).id = 'chosen'"
    ));
    browser.click("#chosen");
}

fn send(browser: &mut Browser, text: &str) {
    browser.click("#input");
    browser.write(text);
    browser.press("Enter", 13);
}

fn wait_until_answered(browser: &mut Browser) {
    browser
        .wait("document.getElementById('stop').hidden && document.querySelector('#talk .assistant:last-child .tools')");
}

fn texts(browser: &mut Browser) -> Vec<String> {
    let all = browser.eval("[...document.querySelectorAll('#talk .turn .text')].map((e) => e.innerText)");
    all.as_array().unwrap().iter().map(|text| text.as_str().unwrap().trim().to_owned()).collect()
}

#[test]
#[ignore = "needs Chromium"]
fn browser_sends_streams_regenerates_and_edits() {
    let server = Server::start(&["-c", "1024", "-np", "1"]);
    let mut browser = open(&server, (1100, 800));
    // Pieces that were shown before the answer was complete.
    browser.eval(
        "window.seen = new Set(); new MutationObserver(() => { const e = document.querySelector('#talk .assistant .text'); \
         if (e && !document.getElementById('stop').hidden) window.seen.add(e.innerText) })\
         .observe(document.getElementById('talk'), {childList: true, subtree: true, characterData: true})",
    );
    browser.eval("document.getElementById('temperature').value = 0; document.getElementById('max_tokens').value = 60");
    send(&mut browser, "Tell me a story about a dog.");
    wait_until_answered(&mut browser);
    assert!(browser.eval("window.seen.size").as_u64().unwrap() > 1, "the answer came in one piece");
    let first = texts(&mut browser);
    assert_eq!((first.len(), first[0].as_str()), (2, "Tell me a story about a dog."));
    let expected = server.chat("Tell me a story about a dog.", r#""max_tokens": 60, "temperature": 0"#).answer();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&first[1]), words(&expected));
    browser.screenshot("answered");

    click_tool(&mut browser, "assistant", "Regenerate");
    wait_until_answered(&mut browser);
    assert_eq!(texts(&mut browser), first, "a greedy answer is the same");

    send(&mut browser, "And a cat?");
    wait_until_answered(&mut browser);
    assert_eq!(texts(&mut browser).len(), 4);
    browser.eval(
        "[...document.querySelectorAll('#talk .user button')].find((b) => b.textContent === 'Edit').id = 'first'",
    );
    browser.click("#first");
    browser.eval("document.querySelector('#talk textarea').value = ''");
    browser.click("#talk textarea");
    browser.write("Hello");
    browser.eval(
        "[...document.querySelectorAll('#talk button')].find((b) => b.textContent === 'Send again').id = 'again'",
    );
    browser.click("#again");
    wait_until_answered(&mut browser);
    let edited = texts(&mut browser);
    assert_eq!((edited.len(), edited[0].as_str()), (2, "Hello"), "what followed the message is gone");

    // The conversation is still there after the page was loaded again.
    browser.call("Page.reload", &json!({}));
    browser.wait("document.querySelectorAll('#talk .turn .text').length === 2");
    assert_eq!(texts(&mut browser), edited);
}

#[test]
#[ignore = "needs Chromium"]
fn browser_stops_an_answer_and_a_waiting_request() {
    let server = Server::start(&["-c", "1024", "-np", "1"]);
    let mut browser = open(&server, (1100, 800));
    // The model does not end this answer, and the page presses Stop when it shows the first words.
    browser.eval(
        "{ const real = window.fetch; window.fetch = (url, init) => { if (init?.body) { const body = JSON.parse(init.body); \
         body.logit_bias = {'2': -100}; init = { ...init, body: JSON.stringify(body) } } return real(url, init) } }",
    );
    browser.eval(
        "new MutationObserver(() => { const e = document.querySelector('#talk .assistant .text'); \
         if (e?.innerText.trim() && !window.stopped) { window.stopped = true; document.getElementById('stop').click() } })\
         .observe(document.getElementById('talk'), {childList: true, subtree: true, characterData: true})",
    );
    send(&mut browser, "Hello");
    browser.wait(
        "document.getElementById('stop').hidden && document.querySelector('#talk')?.innerText.includes('stopped')",
    );
    assert!(!browser.eval(LAST_ANSWER).as_str().unwrap().is_empty());
    server.wait_until_idle();

    let body = chat_body("Hello", &format!("{ENDLESS}, \"n\": 64, \"stream\": true"));
    let mut other = server.connect();
    other.write_all(server.request("POST", "/v1/chat/completions", &[], &body).as_bytes()).unwrap();
    server.wait_for_slots(1);
    send(&mut browser, "Are you there?");
    browser.wait("!document.getElementById('stop').hidden");
    browser.press("Escape", 27);
    browser.wait("document.getElementById('stop').hidden");
    assert_eq!(texts(&mut browser).last().map(String::as_str), Some("Are you there?"));
    drop(other);
    server.wait_until_idle();
}

#[test]
#[ignore = "needs Chromium"]
fn browser_shows_hostile_text_as_text_and_exchanges_files() {
    let server = Server::start(&["-c", "1024"]);
    let mut browser = open(&server, (1100, 800));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.json");
    let messages = json!([
        {"role": "system", "content": "Be <i>kind</i>."}, {"role": "user", "content": HOSTILE},
        {"role": "assistant", "content": HOSTILE},
    ]);
    let saved = json!({"format": "tulu-quant conversation", "version": 1, "title": "t", "messages": messages,
        "settings": {"temperature": 0.5}});
    std::fs::write(&file, saved.to_string()).unwrap();
    browser.choose_file("#file", &file);
    browser.wait("document.querySelectorAll('#talk .turn').length === 2");
    assert_eq!(
        browser.eval("document.querySelectorAll('#talk img, #talk script, #talk svg, #talk b, #talk i').length"),
        0
    );
    let links = browser.eval("[...document.querySelectorAll('#talk a')].map((a) => a.protocol)");
    assert!(links.as_array().unwrap().iter().all(|link| link == "http:" || link == "https:"), "{links}");
    assert_eq!(browser.eval("typeof window.hit"), "undefined");
    assert!(browser.eval(LAST_ANSWER).as_str().unwrap().contains("<img src=x onerror="), "the text is shown");
    assert_eq!(browser.eval("document.querySelectorAll('#talk .assistant li').length"), 2);
    assert_eq!(browser.eval("document.querySelector('#talk .assistant pre').innerText.includes('<script>')"), true);
    assert_eq!(browser.eval("document.getElementById('system').value"), "Be <i>kind</i>.");
    browser.screenshot("hostile");

    browser.eval(
        "window.saved = null; URL.createObjectURL = (blob) => { window.saved = blob.text(); return '#' }; undefined",
    );
    browser.click("#export");
    let text = browser.eval("window.saved");
    let exported: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    assert_eq!((&exported["messages"], &exported["format"]), (&messages, &saved["format"]));
    assert_eq!(exported["settings"]["temperature"], 0.5);
    std::fs::write(&file, "{\"format\": \"other\"}").unwrap();
    browser.choose_file("#file", &file);
    browser.wait("document.getElementById('note').innerText.includes('cannot be imported')");
}

#[test]
#[ignore = "needs Chromium"]
fn browser_is_dark_or_light_and_fits_a_phone() {
    let server = Server::start(&["-c", "1024"]);
    let mut browser = open(&server, (1100, 800));
    let back = "getComputedStyle(document.body).backgroundColor";
    let before = browser.eval(back);
    browser.click("#theme");
    let after = browser.eval(back);
    assert_ne!(before, after);
    browser.screenshot("other-theme");
    browser.call("Page.reload", &json!({}));
    browser.wait("document.querySelector('#talk .empty').innerText.includes('is ready')");
    assert_eq!(browser.eval(back), after, "the choice is kept");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.json");
    let long = format!("{} {}\n\n```\n{}\n```\n\n{HOSTILE}", "word ".repeat(60), "x".repeat(300), "code ".repeat(60));
    let messages = json!([{"role": "user", "content": long}, {"role": "assistant", "content": long}]);
    let saved = json!({"format": "tulu-quant conversation", "version": 1, "messages": messages});
    std::fs::write(&file, saved.to_string()).unwrap();
    browser.choose_file("#file", &file);
    browser.wait("document.querySelectorAll('#talk .turn').length === 2");
    for (width, height) in [(360, 640), (320, 568), (768, 1024), (1600, 900)] {
        browser.resize(width, height);
        browser.wait(&format!("innerWidth === {width}"));
        let script = "(() => { const t = document.getElementById('talk'); \
             return [document.documentElement.scrollWidth - innerWidth, t.scrollWidth - t.clientWidth] })()";
        assert_eq!(browser.eval(script), json!([0, 0]), "{width} wide: nothing scrolls sideways");
        let send = "(() => { const r = document.getElementById('send').getBoundingClientRect(); \
             return r.width > 0 && r.right <= innerWidth && r.bottom <= innerHeight })()";
        assert_eq!(browser.eval(send), true, "{width} wide: the button is on the screen");
        browser.screenshot(&format!("width-{width}"));
    }
    browser.resize(360, 640);
    browser.click("#menu");
    browser.wait("document.getElementById('menu').getAttribute('aria-expanded') === 'true'");
    browser.screenshot("phone-menu");
    browser.press("Escape", 27);
    browser.wait("document.getElementById('menu').getAttribute('aria-expanded') === 'false'");
    browser.click("#options");
    browser.wait("!document.getElementById('settings').hidden");
    browser.screenshot("phone-settings");
    // Every field and button has a name for a screen reader.
    let nameless = browser.eval(
        "[...document.querySelectorAll('button, input:not([type=file]), textarea')].filter((e) => \
         !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map((e) => e.outerHTML)",
    );
    assert_eq!(nameless, json!([]));
}

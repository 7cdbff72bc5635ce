//! The page at `/`.

use crate::support::serve::Server;

#[test]
fn the_page_is_served_with_a_strict_policy_and_needs_no_key() {
    let server = Server::start(&["--api-key", "k"]);
    for (path, kind) in [
        ("/", "text/html"),
        ("/page/app.js", "text/javascript"),
        ("/page/markdown.js", "text/javascript"),
        ("/page/style.css", "text/css"),
    ] {
        let response = server.get(path);
        assert_eq!(response.status, 200, "{path}");
        assert!(response.head.contains(&format!("content-type: {kind}")), "{}", response.head);
        assert!(response.head.contains("default-src 'none'") && response.head.contains("nosniff"), "{}", response.head);
        // Nothing comes from another server.
        assert!(!response.body.contains("src=\"http") && !response.body.contains("@import"), "{path}");
    }
    assert_eq!(server.get("/props").status, 401);
    let props = server.send("GET", "/props", &["Authorization: Bearer k"], "").json();
    assert_eq!(props["default_generation_settings"]["temperature"], 0.7);
    assert_eq!(server.get("/page/other").status, 401);
}

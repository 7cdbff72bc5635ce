//! `tulu-quant doctor`.

use crate::support::checkpoint::json;
use crate::support::{run, tulu_quant};

#[test]
fn doctor_checks_matrix_products() {
    let found = json(&run(tulu_quant().args(["doctor", "--json"]), b""));
    let tests = found["self_test"].as_array().unwrap_or_else(|| panic!("{found}"));
    for kind in ["q4_K", "q8_0"] {
        assert!(tests.iter().any(|t| t["type"] == kind && t["ok"] == true), "{found}");
    }
    assert_eq!(found["pin"]["ggml"], found["ggml"]);
}

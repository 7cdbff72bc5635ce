//! Streaming conversion from a faulty hub: it retries, or ends with one line and no file.

use super::{Case, ID};
use crate::support::checkpoint::bundled;
use crate::support::hub::Fault;
use crate::support::last_line;
use std::fs;

#[test]
fn retries_on_a_faulty_connection() {
    let case = Case::tiny();
    case.hub.fault(Fault::on("model-00001").times(4).cut_after(50_000));
    case.hub.fault(Fault::on("model-00002").times(2).status(503));
    case.hub.fault(Fault::on("model-00002").times(3).cut_after(1));
    case.hub.fault(Fault::on("config.json").times(1).cut_after(20));
    let output = case.convert();
    case.is_done(&output);
}

#[test]
fn corrupt_byte_reports_hash_error_and_refetches_one_file() {
    let case = Case::tiny();
    // the lowest bit of a weight, so that it stays a finite number
    case.hub.fault(Fault::on("model-00002").corrupt_at(3_000_000));
    let output = case.convert();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let line = last_line(&output);
    assert!(line.starts_with("tulu-quant: error[HUB_HASH]:") && line.contains("model-00002"), "{line}");
    case.is_not_done(&output);
    case.served();
    let output = case.convert();
    case.is_done(&output);
    let first = fs::metadata(bundled().join("model-00001-of-00002.safetensors")).unwrap().len();
    let served = case.served();
    assert!(served <= case.total - first + case.around, "{served} bytes: the first file was right");
}

#[test]
fn response_of_wrong_length_is_an_error_and_not_used() {
    let case = Case::tiny();
    case.hub.fault(Fault::on("model-00002").lie_length(7));
    let output = case.convert();
    assert!(last_line(&output).starts_with("tulu-quant: error[HUB_ANSWER]"), "{}", last_line(&output));
    case.is_not_done(&output);
    case.hub.forget();
    let output = case.convert();
    case.is_done(&output);
}

#[test]
fn permanent_error_prints_one_line_with_code() {
    let case = Case::tiny();
    case.hub.fault(Fault::on("model-00002").status(403).error_code("GatedRepo"));
    let output = case.convert();
    let line = last_line(&output);
    assert!(line.starts_with("tulu-quant: error[HUB_") && line.contains(ID), "{line}");
    case.is_not_done(&output);
}

#[test]
fn header_that_changes_is_an_error_and_leaves_no_file() {
    let case = Case::tiny();
    // no value depends on this letter: only the comparison of the two headers finds it
    let header = fs::read(bundled().join("model-00001-of-00002.safetensors")).unwrap();
    let at = header.windows(4).position(|part| part == b"\"pt\"").unwrap() + 1;
    case.hub.fault(Fault::on("model-00001").times(1).corrupt_at(at));
    let output = case.convert();
    let line = last_line(&output);
    assert_eq!(output.status.code(), Some(3), "{line}");
    assert!(
        line.starts_with("tulu-quant: error[HUB_HASH]:") && line.contains("differs from an earlier download"),
        "{line}"
    );
    case.is_not_done(&output);
    let output = case.convert();
    case.is_done(&output);
}

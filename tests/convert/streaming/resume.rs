//! Streaming conversion resumes after kills and Ctrl-C.

use super::{Case, claimed, command_to, kills, names, outputs, start};
use crate::support::hub::Fault;
use crate::support::run;
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn other_types_leave_an_interrupted_run_alone() {
    let case = Case::tiny();
    // the lowest bit of a weight of the second file is wrong
    case.hub.fault(Fault::on("model-00002").corrupt_at(3_000_000));
    let output = case.convert();
    case.is_not_done(&output);
    let begun = outputs(&case.out());
    assert_eq!(begun.len(), 3, "two parts and a journal: {:?}", names(&begun));
    case.hub.forget();
    // other types, one of them in common, in any order
    let output = run(&mut command_to(&case.hub, &case.out(), "Q4_0"), b"");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("belongs to an interrupted conversion to other types"),
        "{output:?}"
    );
    let output = run(&mut command_to(&case.hub, &case.out(), "Q8_0"), b"");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let found = outputs(&case.out());
    begun.iter().for_each(|file| assert!(found.contains(file), "{} changed", file.0));
    ["tulu-tiny-Q4_0.gguf", "tulu-tiny-Q8_0.gguf"].iter().for_each(|n| fs::remove_file(case.out().join(n)).unwrap());
    case.served();
    let output = run(&mut command_to(&case.hub, &case.out(), "Q8_0,Q4_K_M"), b"");
    assert!(String::from_utf8_lossy(&output.stderr).contains("resuming at"), "{output:?}");
    case.is_done(&output);
    assert!(case.served() < case.total + case.around, "something was kept");
}

#[test]
fn resumes_after_kills_and_fetches_nothing_twice() {
    kills(&Case::tiny(), 6, 60, Duration::from_millis(900));
}

#[test]
#[ignore = "long: a minute and more"]
fn long_resumes_after_thirty_kills() {
    kills(&Case::tiny(), 30, 60, Duration::from_millis(900));
}

#[test]
fn ctrl_c_keeps_streamed_data() {
    let case = Case::tiny();
    let child = start(&case, 800);
    let begun = Instant::now();
    while !case.out().join("tulu-tiny-Q8_0-Q4_K_M.tulu-journal").exists() || claimed(&case.out()) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing was entered");
        std::thread::sleep(Duration::from_millis(5));
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap(),
        rustix::process::Signal::INT,
    )
    .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    case.is_not_done(&output);
    let claims = claimed(&case.out());
    case.served();
    let output = case.convert();
    assert!(String::from_utf8_lossy(&output.stderr).contains("resuming at"), "it says so");
    case.is_done(&output);
    assert!(claims > 0 && case.served() <= case.total - claims + case.around);
}

//! What whoever runs seeds is told: of those that pass, and of one that does not end.

use std::process::Command;
use std::process::Output;

fn simulate(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stator-simulate"));
    command.args(arguments.split(' '));
    command
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn seeds_that_pass_are_counted() {
    let output = simulate("--from 3 --seeds 2").output().expect("it runs");
    assert!(output.status.success(), "{}", errors(&output));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("\n2 seeds from 3, "), "{said}");
}

/// Whatever seed is under way is too slow for no time at all.
#[test]
fn a_seed_that_does_not_end_is_named() {
    let slow = "--from 3 --seeds 200 --kind storage --seed-seconds 0";
    let output = simulate(slow).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let errors = errors(&output);
    let named = errors.strip_prefix("storage seed ").and_then(|rest| rest.split_once(' '));
    let Some((seed, why)) = named else { panic!("{errors}") };
    assert!(seed.parse::<u64>().is_ok_and(|seed| seed >= 3), "{errors}");
    assert!(why.starts_with("failed: not ended after "), "{errors}");
    assert!(errors.contains(&format!("SEED={seed} cargo test")), "{errors}");
}

//! What whoever runs seeds is told: of those that pass, of one that does not end, and nothing when
//! nobody listens.

use std::io::BufRead;
use std::io::BufReader;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

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

#[test]
fn a_closed_output_ends_it_without_a_word() {
    let (reader, writer) = std::io::pipe().expect("there are descriptors");
    drop(reader);
    let child = simulate("--seeds 1").stdout(writer).stderr(Stdio::piped()).spawn();
    ends_quietly(&child.expect("it runs").wait_with_output().expect("it ends"));
}

/// The same in the middle of a seed: what it tells is more than a pipe holds.
#[test]
fn an_output_that_is_closed_while_a_seed_tells_ends_it_without_a_word() {
    let mut command = simulate("--from 3 --seeds 1 --aloud 1");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let output = child.stdout.take().expect("it is piped");
    let heard = BufReader::new(output).lines().take(5).count();
    assert_eq!(heard, 5);
    ends_quietly(&child.wait_with_output().expect("it ends"));
}

fn ends_quietly(output: &Output) {
    assert_eq!(errors(output), "");
    assert_eq!(output.status.code(), Some(141));
}

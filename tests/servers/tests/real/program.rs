//! Programs of ours, here by shell scripts.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use callboard_servers::Program;
use rustix::process::Signal;
use tokio::time::timeout;

fn shell(script: &str) -> Program {
    Program::at("sh").args(["-c", script]).start()
}

#[tokio::test]
async fn its_lines_are_read_as_they_come() {
    let program = shell("echo one; echo two; read -r _; echo never");
    // Its input is empty: it does not wait for a word of the test's.
    assert_eq!(program.line("two").await, "two");
    assert_eq!(program.line("one").await, "one");
    assert!(program.wait().await.success());
    assert_eq!(program.line("never").await, "never");
    assert_eq!(program.lines(), ["one", "two", "never"]);
}

#[tokio::test]
async fn a_line_can_be_asked_for_after_others() {
    let program = shell("echo up 1; echo down; echo up 2; sleep 600");
    let (next, line) = program.line_after(0, "up").await;
    assert_eq!((next, line.as_str()), (1, "up 1"));
    let (next, line) = program.line_after(next, "up").await;
    assert_eq!((next, line.as_str()), (3, "up 2"));
    program.kill().await;
}

#[tokio::test]
#[should_panic(expected = "has ended without \"three\"; it said [\n    \"one\",\n]")]
async fn a_line_that_never_comes_is_missed_with_what_came() {
    shell("echo one").line("three").await;
}

#[tokio::test]
async fn it_is_given_arguments_and_variables() {
    let program = Program::at("sh").arg("-c").arg("echo $1-$WORD; exit 3").args(["sh", "a"]).env("WORD", "b").start();
    assert_eq!(program.line("-").await, "a-b");
    assert_eq!(program.wait().await.code(), Some(3));
}

#[tokio::test]
async fn signals_arrive_and_how_it_ended_is_told() {
    let script = "trap 'echo term; exit 1' TERM; trap 'echo int; exit 2' INT; echo up; while :; do sleep 0.01; done";
    let program = shell(script);
    program.line("up").await;
    program.terminate();
    assert_eq!((program.wait().await.code(), program.line("term").await.as_str()), (Some(1), "term"));

    let program = shell(script);
    program.line("up").await;
    program.interrupt();
    assert_eq!((program.wait().await.code(), program.line("int").await.as_str()), (Some(2), "int"));

    let program = shell(script);
    program.kill().await;
    assert_eq!(program.wait().await.signal(), Some(Signal::KILL.as_raw()));
}

#[tokio::test]
async fn a_paused_one_says_nothing_until_it_is_resumed() {
    let program = shell("while :; do echo line; sleep 0.01; done");
    program.line("line").await;
    program.pause();
    // What was written before may still come.
    let settled = async {
        loop {
            let (before, _) = (program.lines().len(), tokio::time::sleep(Duration::from_millis(300)).await);
            if program.lines().len() == before {
                return before;
            }
        }
    };
    let before = settled.await;
    assert!(timeout(Duration::from_millis(300), program.line_after(before, "line")).await.is_err());
    program.resume();
    program.line_after(before, "line").await;
}

#[tokio::test]
async fn a_program_that_is_not_there_ends_at_once() {
    assert_eq!(Program::at("/no/such/program").start().wait().await.code(), Some(127));
}

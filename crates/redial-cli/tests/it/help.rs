//! What the program says of itself.

use crate::world::redial;

/// The commands that the program's own help names.
fn commands() -> Vec<String> {
    let help = redial("--help").out;
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

/// Help that scrolls away.
#[test]
fn each_help_fits_on_a_screen() {
    let commands = commands();
    assert!(commands.len() >= 7, "{commands:?}");
    for words in commands.iter().map(String::as_str).chain([""]) {
        let help = redial(&format!("{words} --help"));
        assert_eq!(help.code, 0);
        let widest = help
            .out
            .lines()
            .map(|line| line.chars().count())
            .max()
            .unwrap();
        let lines = help.out.lines().count();
        assert!(
            widest <= 80 && lines <= 40,
            "{words}: {widest} x {lines}\n{}",
            help.out
        );
    }
}

#[test]
fn each_command_has_a_manual_page_and_a_line_in_the_readme() {
    let readme = include_str!("../../README.md");
    for command in commands() {
        assert!(
            readme.contains(&format!("| `redial {command}")),
            "{command}"
        );
        let page = redial(&format!("man {command}"));
        assert!(
            page.code == 0 && page.out.contains(".SH SYNOPSIS"),
            "{command}: {page:?}"
        );
    }
    let page = redial("man").out;
    assert!(
        page.contains(".TH redial 1") && page.contains("call"),
        "{page}"
    );
}

#[test]
fn there_are_completions_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = redial(&format!("completions {shell}"));
        assert_eq!(script.code, 0);
        assert!(
            script.out.contains("save-token") && script.out.contains("discover"),
            "{shell}"
        );
    }
}

/// A reader that has seen enough.
#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_failure() {
    use std::process::Stdio;
    let mut child = crate::world::command();
    let child = child
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

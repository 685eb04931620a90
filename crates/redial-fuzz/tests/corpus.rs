//! Every case of the corpus goes through the function that it was found with, or made for.

use std::{fs, path::Path};

use redial_fuzz::{client, connection, frames, message, reply};

fn all_of(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{folder:?} holds {} cases", files.len());
    for file in files {
        // Names the case that a panic below is about.
        println!("{}", file.display());
        check(&fs::read(&file).unwrap());
    }
}

#[test]
fn frames_are_the_same_however_they_are_split() {
    all_of("frames", frames::check);
}

#[test]
fn messages_are_refused_or_read_and_written_as_the_same() {
    all_of("message", message::check);
}

#[test]
fn replies_are_refused_or_read_and_written_as_the_same() {
    all_of("reply", reply::check);
}

#[test]
fn a_connection_bears_any_bytes() {
    all_of("connection", connection::check);
}

#[test]
fn a_client_bears_any_replies() {
    all_of("client", client::check);
}

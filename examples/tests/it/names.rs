//! The kind of fault that these tests name: a word that a reader can't trust, since it stands for two things,
//! or for something that has another name by now.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::repository::{files, root};

/// What nothing is called any more, since the field has a name for it or it named several things.
const OLD_NAMES: [&str; 37] = [
    "Ask",
    "Books",
    "Chores",
    "Course",
    "Deed",
    "Dice",
    "Ending",
    "Eye",
    "Fate",
    "Flight",
    "Form",
    "Habit",
    "IdStart",
    "Json",
    "Kit",
    "MessageReader",
    "Mischief",
    "Name",
    "Nature",
    "Open",
    "Over",
    "Owed",
    "Pending",
    "Place",
    "Said",
    "Seen",
    "Stop",
    "Story",
    "Taken",
    "Told",
    "Touch",
    "Turn",
    "Unfinished",
    "UsualReply",
    "Watch",
    "Welcome",
    "What",
];

/// Phrases that say less than the field's words do, each as its words: this page holds none of them itself.
const OLD_PHRASES: [&[&str]; 17] = [
    &["is", "none"],
    &["are", "none"],
    &["was", "none"],
    &["were", "none"],
    &["what", "became", "of"],
    &["what", "becomes", "of"],
    &["taken", "back"],
    &["done", "with"],
    &["under", "way"],
    &["is", "told"],
    &["are", "told"],
    &["was", "told"],
    &["be", "told"],
    &["been", "told"],
    &[concat!("no", "body")],
    &[concat!("some", "body")],
    &[concat!("who", "ever")],
];

/// How a file begins that a program has written, with names that its input chose.
const GENERATED: &str = "as `redial discover --rust` read them.";

/// The name of the type that a line of code defines.
fn defined(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.strip_prefix(' ')?,
        None => line,
    };
    let (keyword, rest) = line.split_once(' ')?;
    let is_type = ["struct", "enum", "trait", "union", "type"].contains(&keyword);
    let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_');
    is_type.then(|| &rest[..end.unwrap_or(rest.len())])
}

/// The folders and files below a folder; none if it is not there.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The sources of each crate of a package: of the library or the program, and of every further program,
/// example, benchmark and test.
fn crates(package: &Path) -> Vec<Vec<PathBuf>> {
    let sources = package.join("src");
    let programs = sources.join("bin");
    let own = files(&sources, ".rs").into_iter();
    let mut crates = vec![own.filter(|path| !path.starts_with(&programs)).collect()];
    let others = ["tests", "examples", "benches"].map(|name| package.join(name));
    for entry in others.iter().chain([&programs]).flat_map(|it| entries(it)) {
        crates.push(if entry.is_dir() {
            files(&entry, ".rs")
        } else {
            vec![entry]
        });
    }
    crates
}

fn packages() -> Vec<PathBuf> {
    let mut packages = entries(&root().join("crates"));
    packages.extend(["examples", "xtask"].map(|name| root().join(name)));
    packages.retain(|path| path.join("Cargo.toml").exists());
    assert!(packages.len() > 15, "{packages:?}");
    packages
}

/// Two of one name in one file are one type, for one system each.
#[test]
fn no_name_stands_for_two_types_of_one_crate() {
    let mut found = 0;
    let mut faults = Vec::new();
    for sources in packages().iter().flat_map(|package| crates(package)) {
        let mut by_name: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
        for path in sources {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let is_generated = text
                .lines()
                .next()
                .is_some_and(|it| it.ends_with(GENERATED));
            for name in text.lines().filter_map(defined).filter(|_| !is_generated) {
                by_name
                    .entry(name.to_owned())
                    .or_default()
                    .insert(path.clone());
            }
        }
        found += by_name.len();
        let twice = by_name.into_iter().filter(|(_, paths)| paths.len() > 1);
        faults.extend(twice.map(|(name, paths)| format!("{name}: {paths:?}")));
    }
    assert!(found > 1000, "types are not found any more: {found}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_type_has_a_name_that_was_given_up() {
    let mut faults = Vec::new();
    for path in files(&root(), ".rs") {
        let text = fs::read_to_string(&path).unwrap();
        let names = text.lines().filter_map(|line| defined(line.trim_start()));
        let old = names.filter(|name| OLD_NAMES.contains(name));
        faults.extend(old.map(|name| format!("{name}: {}", path.display())));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A page as one line, so that a phrase that is broken across lines is found as well.
fn one_line(text: &str) -> String {
    let line = |line: &str| {
        let line = line.trim();
        let marks = ["///", "//!", "//", "#"];
        let bare = marks.iter().find_map(|mark| line.strip_prefix(mark));
        bare.unwrap_or(line).trim_end_matches('\\').to_owned()
    };
    let text: Vec<_> = text.lines().map(line).collect();
    text.join(" ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Where a phrase stands in a text, each time with what stands around it.
fn occurrences(text: &str, phrase: &str) -> Vec<String> {
    let is_inside = |char: char| char.is_alphanumeric() || char == '_';
    let found = text.match_indices(phrase).filter(|(at, _)| {
        let (before, behind) = (&text[..*at], &text[at + phrase.len()..]);
        !before.ends_with(is_inside) && !behind.starts_with(is_inside)
    });
    let around = |(at, _): (usize, &str)| {
        let before: String = text[..at].chars().rev().take(50).collect();
        let before: String = before.chars().rev().collect();
        let behind: String = text[at..].chars().take(phrase.len() + 20).collect();
        before + &behind
    };
    found.map(around).collect()
}

#[test]
fn no_comment_page_or_message_says_what_the_field_says_better() {
    let mut pages = vec![root().join(".ci/run")];
    for suffix in [".rs", ".md", ".toml", ".py"] {
        pages.extend(files(&root(), suffix));
    }
    let mut faults = Vec::new();
    for page in pages {
        let text = one_line(&fs::read_to_string(&page).unwrap());
        for phrase in OLD_PHRASES.map(|words| words.join(" ")) {
            let (first, rest) = phrase.split_at(1);
            for phrase in [&phrase, &(first.to_uppercase() + rest)] {
                let found = occurrences(&text, phrase).into_iter();
                faults.extend(found.map(|found| format!("{}: {found}", page.display())));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

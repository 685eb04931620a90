//! `cargo xtask circles`: holds the files of each library to imports that point downward.
//!
//! A file imports another one if a path in its code begins with `crate::`, `super::`, `self::` or a
//! child module's name and leads into that file. Tests don't count, nor does the declaration of a
//! child. A circle is a set of files each of which can be reached from each other one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// The libraries that this is asked of.
const CRATES: [&str; 3] = ["redial-protocol", "redial-server", "redial-client"];

/// The most files that a circle may have.
const MAX_FILES: usize = 3;

/// A module's path, without `crate`; the crate's root is empty.
type Module = Vec<String>;

/// The modules that each module imports.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// Prints the circles of each library; fails if one is too large.
pub(crate) fn run() -> Result<ExitCode> {
    let root = Workspace::find()?.root;
    let mut is_good = true;
    for name in CRATES {
        let mut sources = BTreeMap::new();
        read_modules(
            &root.join("crates").join(name).join("src"),
            &[],
            &mut sources,
        )?;
        let circles = circles(&imports(&sources));
        println!("{name}: {} files, {} circles", sources.len(), circles.len());
        for circle in circles {
            let files: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
            println!("  {} files: {}", files.len(), files.join(", "));
            is_good &= files.len() <= MAX_FILES;
        }
    }
    if is_good {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("error: a circle of imports has more than {MAX_FILES} files");
    Ok(ExitCode::FAILURE)
}

/// Reads the code of every module below a folder, tests left out.
fn read_modules(
    folder: &Path,
    above: &[String],
    sources: &mut BTreeMap<Module, String>,
) -> Result<()> {
    let at = || format!("can't read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(at)? {
        let path = entry.with_context(at)?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut module = above.to_vec();
        if !matches!(&*stem, "lib" | "mod") {
            module.push(stem.into_owned());
        }
        let is_test = module.last().is_some_and(|name| name == "tests");
        if path.is_dir() {
            read_modules(&path, &module, sources)?;
        } else if path.extension().is_some_and(|end| end == "rs") && !is_test {
            let text = fs::read_to_string(&path).with_context(at)?;
            if !text.contains("#![cfg(test)]") {
                sources.insert(module, code(&text));
            }
        }
    }
    Ok(())
}

/// The code before the tests, without comments.
fn code(text: &str) -> String {
    let before_tests = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    let lines = before_tests.lines();
    let code = lines.map(|line| line.split("//").next().unwrap_or_default());
    // Where a thing may be seen is not an import.
    code.collect::<Vec<_>>()
        .join("\n")
        .replace("pub(in crate::", "pub(")
}

/// Which module imports which.
fn imports(sources: &BTreeMap<Module, String>) -> Imports {
    let is_module = |path: &[String]| sources.contains_key(path);
    let of = |(module, code): (&Module, &String)| {
        let paths = paths(code).into_iter();
        let found = paths.filter_map(|path| {
            let mut full = absolute(module, &path, is_module)?;
            while !is_module(&full) {
                full.pop()?;
            }
            Some(full)
        });
        // The root declares everything; what it re-exports is no import of a reader's.
        let found = found.filter(|target| target != module && !target.is_empty());
        (module.clone(), found.collect())
    };
    let modules = sources.iter().filter(|(module, _)| !module.is_empty());
    modules.map(of).collect()
}

/// A path as it is seen from the crate's root, if it leads into the crate.
fn absolute(
    module: &[String],
    path: &[String],
    is_module: impl Fn(&[String]) -> bool,
) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    let mut base = match first.as_str() {
        "crate" => Module::new(),
        "self" => module.to_vec(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        child => {
            let full = [module, &[child.to_owned()]].concat();
            return is_module(&full).then(|| [module, path].concat());
        }
    };
    let mut rest = rest;
    while let Some((word, behind)) = rest.split_first()
        && word == "super"
    {
        base.pop()?;
        rest = behind;
    }
    base.extend_from_slice(rest);
    Some(base)
}

/// Every path in the code, the trees of `use` written out.
fn paths(code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    let mut prefixes: Vec<Module> = vec![Module::new()];
    let mut path = Module::new();
    let mut is_joined = false;
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if length > 0 {
            if !is_joined {
                end_path(&prefixes, &mut path, &mut found);
            }
            path.push(rest[..length].to_owned());
            (is_joined, rest) = (false, &rest[length..]);
        } else if let Some(behind) = rest.strip_prefix("::") {
            (is_joined, rest) = (true, behind);
        } else {
            let prefix = prefixes.last().cloned().unwrap_or_default();
            match first {
                // Within a use tree the path before a brace belongs to all inside.
                '{' if is_joined => prefixes.push([prefix, std::mem::take(&mut path)].concat()),
                '{' => prefixes.push(Module::new()),
                '}' => {
                    end_path(&prefixes, &mut path, &mut found);
                    prefixes.pop();
                }
                _ => {}
            }
            is_joined = false;
            rest = &rest[first.len_utf8()..];
        }
    }
    end_path(&prefixes, &mut path, &mut found);
    found.retain(|path| path.len() > 1);
    found
}

/// Keeps a path that leads anywhere, with what stands before the braces around it.
fn end_path(prefixes: &[Module], path: &mut Module, found: &mut Vec<Module>) {
    let path = std::mem::take(path);
    if !path.is_empty() {
        found.push([prefixes.last().cloned().unwrap_or_default(), path].concat());
    }
}

/// The sets of modules that reach each other, the largest first.
fn circles(imports: &Imports) -> Vec<Vec<Module>> {
    let reached = |from: &Module| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(module) = open.pop() {
            let next = imports.get(module).into_iter().flatten();
            open.extend(next.filter(|next| seen.insert((*next).clone())));
        }
        seen
    };
    let reach = imports.keys().map(|module| (module, reached(module)));
    let reach: BTreeMap<&Module, BTreeSet<Module>> = reach.collect();
    let mut circles = BTreeSet::new();
    for (module, seen) in &reach {
        let is_mutual =
            |other: &&Module| reach.get(other).is_some_and(|back| back.contains(*module));
        let circle: Vec<Module> = seen.iter().filter(is_mutual).cloned().collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    let mut circles: Vec<_> = circles.into_iter().collect();
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str) -> Module {
        path.split("::").map(str::to_owned).collect()
    }

    fn imports_of(files: &[(&str, &str)]) -> Imports {
        let sources = files.iter().map(|(path, text)| (module(path), code(text)));
        imports(&sources.collect())
    }

    #[test]
    fn trees_of_use_and_paths_in_code_lead_to_files() {
        let imports = imports_of(&[
            (
                "a",
                "use crate::{b::{self, B}, c::d::D};\nmod tests {}\n// crate::e::E",
            ),
            (
                "b",
                "pub(in crate::a) fn f() -> super::c::C { crate::e::new::<u8>() }",
            ),
            ("c", "mod d;\npub use d::D;"),
            (
                "c::d",
                "use std::{io, fmt::Write};\nuse super::super::{\n    a::{A, B},\n};",
            ),
            (
                "e",
                "fn f() {}\n#[cfg(test)]\nmod tests {\nuse crate::a::A;\n}",
            ),
        ]);
        let of = |path: &str| {
            let targets = imports[&module(path)].iter();
            targets
                .map(|target| target.join("::"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(of("a"), "b c::d");
        assert_eq!(of("b"), "c e");
        assert_eq!(of("c"), "c::d");
        assert_eq!(of("c::d"), "a");
        assert_eq!(of("e"), "");
    }

    #[test]
    fn a_circle_is_what_reaches_each_other() {
        let imports = imports_of(&[
            ("a", "use crate::b::B;"),
            ("b", "use crate::c::C;"),
            ("c", "use crate::{a::A, d::D};"),
            ("d", "fn f() {}"),
        ]);
        let expected: Vec<Vec<Module>> = vec![vec![module("a"), module("b"), module("c")]];
        assert_eq!(circles(&imports), expected);
    }
}

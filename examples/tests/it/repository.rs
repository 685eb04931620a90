//! What a reader of the repository relies on: links lead somewhere, the tests that GUARANTEES.md
//! names exist, and every dependency has a licence that goes with MIT OR Apache-2.0.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Licences whose code may be linked into a program under any licence. The same as in deny.toml.
const LICENCES: [&str; 11] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub(super) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap().to_owned()
}

/// All files below a folder whose name ends so, but for what is built or hidden.
pub(super) fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, suffix));
        } else if name.ends_with(suffix) && path.is_file() {
            found.push(path);
        }
    }
    found
}

/// The targets of the links of a page, as they are written.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let after = page.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// The anchors that a page's headings get.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter_map(|line| line.strip_prefix('#'));
    let anchor = |heading: &str| -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter_map(|char| match char {
            ' ' => Some('-'),
            '-' | '_' => Some(char),
            _ => Some(char).filter(|char| char.is_alphanumeric()),
        });
        kept.collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    for page in files(&root(), ".md") {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text).filter(|link| !link.starts_with("http")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.with_file_name(file)
            };
            assert!(target.exists(), "{}: no {link}", page.display());
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&target).unwrap());
                assert!(
                    there.iter().any(|one| one == anchor),
                    "{}: no {link}",
                    page.display()
                );
            }
        }
    }
}

#[test]
fn a_published_package_links_to_nothing_outside_it() {
    for name in [
        "redial",
        "redial-cli",
        "redial-client",
        "redial-protocol",
        "redial-server",
        "redial-store-postgres",
        "redial-store-sqlite",
        "redial-tls",
    ] {
        for page in files(&root().join("crates").join(name), ".md") {
            let text = fs::read_to_string(&page).unwrap();
            let leaves = links(&text).find(|link| link.contains("../"));
            assert_eq!(leaves, None, "{}", page.display());
        }
    }
}

/// A published package that does not build: a file that its code takes in is not among those that are packed.
#[test]
fn a_published_package_has_the_files_that_its_code_includes() {
    let mut seen = 0;
    for package in [
        "redial-cli",
        "redial-client",
        "redial-protocol",
        "redial-server",
        "redial-tls",
    ] {
        let folder = root().join("crates").join(package);
        let list = Command::new(env!("CARGO"))
            .args([
                "package",
                "--list",
                "--allow-dirty",
                "--offline",
                "-p",
                package,
            ])
            .output()
            .unwrap();
        let packed = String::from_utf8(list.stdout).unwrap();
        for source in files(&folder.join("src"), ".rs") {
            let text = fs::read_to_string(&source).unwrap();
            let names = text.split("include_str!(\"").skip(1);
            for name in names.filter_map(|rest| rest.split('"').next()) {
                let file = source.with_file_name(name).canonicalize().unwrap();
                let file = file
                    .strip_prefix(folder.canonicalize().unwrap())
                    .unwrap()
                    .to_owned();
                let is_packed = packed.lines().any(|line| Path::new(line) == file);
                assert!(is_packed, "{package}: {}", file.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn every_test_that_guarantees_md_names_exists() {
    let page = fs::read_to_string(root().join("crates/GUARANTEES.md")).unwrap();
    let sources: Vec<(String, String)> = files(&root(), ".rs")
        .into_iter()
        .map(|path| {
            (
                path.display().to_string(),
                fs::read_to_string(path).unwrap(),
            )
        })
        .collect();
    let spans = page.split('`').skip(1).step_by(2);
    let named: Vec<_> = spans.filter_map(|span| span.rsplit_once("::")).collect();
    assert!(named.len() > 50, "the names are not found any more");
    for (module, test) in named
        .into_iter()
        .filter(|named| *named != ("module", "test"))
    {
        let is_there = |(path, text): &(String, String)| {
            let module = module.replace("::", "/");
            let (file, folder) = (format!("/{module}.rs"), format!("/{module}/"));
            let is_module = path.ends_with(&file) || path.contains(&folder);
            is_module && text.contains(&format!("fn {test}("))
        };
        let is_api = module.chars().any(char::is_uppercase) || module.starts_with("redial_");
        assert!(
            is_api || sources.iter().any(is_there),
            "no test {module}::{test}"
        );
    }
}

/// Whether one of the alternatives of every part is allowed; older manifests write `/` for OR.
fn is_allowed(licence: &str) -> bool {
    let plain = licence.replace(['(', ')'], "").replace('/', " OR ");
    let any = |part: &str| part.split(" OR ").any(|one| LICENCES.contains(&one.trim()));
    plain.split(" AND ").all(any)
}

#[test]
fn every_dependency_has_a_licence_that_goes_with_ours() {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args([
            "tree",
            "--workspace",
            "--locked",
            "--offline",
            "--prefix",
            "none",
        ])
        .args([
            "--edges",
            "normal,build,dev",
            "--no-dedupe",
            "--format",
            "{p}|{l}",
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let dependencies: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once('|'))
        .collect();
    assert!(
        dependencies.len() > 100,
        "the list is no list any more: {text}"
    );
    for (package, licence) in dependencies {
        assert!(is_allowed(licence), "{package} is under {licence:?}");
    }
}

/// The files of a library in the tree of crates/README.md, where two spaces are one folder.
fn files_in_tree(page: &str, library: &str) -> Vec<String> {
    let (_, behind) = page.split_once(&format!("\n{library}/src/\n")).unwrap();
    let mut folders: Vec<String> = Vec::new();
    let mut files = Vec::new();
    for line in behind.lines().take_while(|line| line.starts_with("  ")) {
        let name = line.split_whitespace().next().unwrap();
        let depth = (line.len() - line.trim_start().len()) / 2 - 1;
        folders.truncate(depth);
        folders.push(name.trim_end_matches(".rs").to_owned());
        files.push(folders.join("/"));
    }
    files
}

#[test]
fn the_tree_in_the_readme_of_the_crates_shows_every_file_of_the_libraries() {
    let page = fs::read_to_string(root().join("crates/README.md")).unwrap();
    for library in ["redial-protocol", "redial-server", "redial-client"] {
        let source = root().join("crates").join(library).join("src");
        let paths = files(&source, ".rs").into_iter().map(|path| {
            let path = path.strip_prefix(&source).unwrap().with_extension("");
            path.to_string_lossy().into_owned()
        });
        // Tests, and the models they compare with, stand beside what they test.
        let is_test = |part: &str| ["tests", "model", "chaos"].contains(&part);
        let mut expected: Vec<String> = paths
            .filter(|path| path != "lib" && !path.split('/').any(is_test))
            .collect();
        let mut shown = files_in_tree(&page, library);
        expected.sort();
        shown.sort();
        assert_eq!(shown, expected, "{library}");
    }
}

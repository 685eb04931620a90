//! A file of tokens that is broken takes all callers' way in, or lets one in that was taken out.

use std::{fs, path::PathBuf, time::Duration};

use redial_server::{Context, Principal, Server, TokenFile};
use serde_json::{Value, json};

use crate::common::{code, pipe};

/// A file that goes with its test.
struct TestFile(PathBuf);

impl TestFile {
    fn new(name: &str, text: &str) -> Self {
        let file = format!("redial-tokens-{}-{name}", std::process::id());
        let file = Self(std::env::temp_dir().join(file));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

fn server(tokens: TokenFile) -> Server {
    Server::builder()
        .query("who", async |(): (), context: Context| {
            Ok(context.principal().map(Principal::to_string))
        })
        .authenticate(tokens)
        .build()
        .unwrap()
}

/// Who a token's caller is, if it is let in.
async fn who(server: &Server, token: &str) -> Option<String> {
    let mut peer = pipe(server);
    let auth = json!({"id": "a", "method": "rpc.auth", "params": {"token": token}});
    let reply: Value = peer.call_json(auth.to_string()).await;
    if reply["result"].is_null() {
        assert_eq!(code(&reply), -32005, "{reply}");
        return None;
    }
    let who = peer.call_json(r#"{"id":"w","method":"who"}"#).await;
    Some(who["result"].as_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_token_is_let_in_under_its_name_and_nothing_that_is_like_it() {
    let lines = [
        TokenFile::line("billing", "b1"),
        TokenFile::line("billing", "b2"),
        TokenFile::line("shop", "s"),
    ];
    let text = format!("# tokens\n\n  {}\n{}\r\n{}", lines[0], lines[1], lines[2]);
    let file = TestFile::new("names", &text);
    let tokens = TokenFile::open(&file.0).unwrap();
    assert!(
        !format!("{tokens:?}").contains(&lines[0][8..]),
        "{tokens:?}"
    );
    let server = server(tokens);
    for token in ["b1", "b2"] {
        let found = who(&server, token).await;
        assert_eq!(found.as_deref(), Some("token:billing"));
    }
    assert_eq!(who(&server, "s").await.as_deref(), Some("token:shop"));
    for token in ["", "b", "b1 ", "B1", "b12", "billing", &lines[0][8..]] {
        assert_eq!(who(&server, token).await, None, "{token:?}");
    }
}

/// The hash of "abc" that FIPS 180-2 gives, so that files of other tools will do.
#[test]
fn a_line_is_what_sha256sum_says() {
    assert_eq!(
        TokenFile::line("n", "abc"),
        "n ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_counts_after_a_second_and_a_broken_one_does_not() {
    let file = TestFile::new("changes", &TokenFile::line("one", "1"));
    let tokens = TokenFile::open(&file.0).unwrap();
    let server = server(tokens.clone());
    assert!(who(&server, "1").await.is_some());
    let broken = format!("{}\nthree a-token-by-mistake", TokenFile::line("two", "2"));
    file.write(&broken);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        who(&server, "1").await.is_some(),
        "the file from before counts"
    );
    assert_eq!(who(&server, "2").await, None);
    let problem = tokens.problem().unwrap();
    assert!(
        problem.contains("line 2: what stands behind the name"),
        "{problem}"
    );
    assert!(!problem.contains("a-token-by-mistake"), "{problem}");
    assert!(tokens.reload().is_err());
    fs::remove_file(&file.0).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(who(&server, "1").await.is_some());
    assert!(tokens.problem().unwrap().contains("can't be read"));
    file.write(&TokenFile::line("two", "2"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(who(&server, "2").await.as_deref(), Some("token:two"));
    assert_eq!(who(&server, "1").await, None, "it was taken out");
    assert_eq!(tokens.problem(), None);
}

#[test]
fn a_file_that_makes_no_sense_is_refused_with_its_line() {
    let good = TokenFile::line("one", "1");
    for (text, expected) in [
        ("one", "line 1: expected a name and a hash"),
        (
            "\n# no\none two three",
            "line 3: expected a name and a hash",
        ),
        ("one 12ab", "expected 64 hex digits"),
        ("one zz", "expected 64 hex digits"),
        (&format!("{good}0"), "expected 64 hex digits"),
        (
            &format!("{good}\ntwo {}", &good[4..]),
            "line 2: the token is another name's",
        ),
        (
            &format!("{} {}", "n".repeat(251), &good[4..]),
            "has 257 bytes",
        ),
    ] {
        let file = TestFile::new("senseless", text);
        let error = TokenFile::open(&file.0).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    // A token that stands where a name belongs is no better off.
    let secret = "0123456789abcdef0123456789abcdef";
    for text in [
        format!("{secret} billing"),
        format!("{secret} {secret}0"),
        format!("{secret}\u{1b} {}", &good[4..]),
        format!("{}{secret} {}", secret.repeat(8), &good[4..]),
        secret.to_owned(),
    ] {
        let file = TestFile::new("secrets", &text);
        let error = TokenFile::open(&file.0).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(!said.contains(secret), "{said}");
    }
    let missing = TokenFile::open("/nowhere/tokens").unwrap_err().to_string();
    assert!(
        missing.contains("/nowhere/tokens: can't be read"),
        "{missing}"
    );
}

/// A mark that an editor leaves is no part of a name, and a name that would forge a line of a log is refused.
#[tokio::test(start_paused = true)]
async fn a_name_is_what_is_seen_of_it() {
    let good = TokenFile::line("one", "1");
    let file = TestFile::new("marked", &format!("\u{feff}{good}\r\n"));
    let server = server(TokenFile::open(&file.0).unwrap());
    assert_eq!(who(&server, "1").await.as_deref(), Some("token:one"));
    for name in ["a\0b", "\u{1b}[31ma", "a\u{7f}"] {
        let file = TestFile::new("controls", &TokenFile::line(name, "1"));
        let error = TokenFile::open(&file.0).unwrap_err().to_string();
        assert!(
            error.contains("line 1: a principal's name has a control character"),
            "{error}"
        );
    }
}

/// Puts something where the file was.
#[cfg(unix)]
type Make<'a> = &'a dyn Fn(&std::path::Path);

/// Kind: a file that keeps its reader waiting, or takes all memory. Instances: a pipe that has no other
/// end, a folder, a device that never ends, a file of 3 GiB.
#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn what_is_no_small_regular_file_is_not_read() {
    let file = TestFile::new("special", &TokenFile::line("one", "1"));
    let tokens = TokenFile::open(&file.0).unwrap();
    let server = server(tokens.clone());
    let replace = |make: Make<'_>| {
        let _ = fs::remove_file(&file.0);
        make(&file.0);
    };
    let pipe = |path: &std::path::Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    let device = |path: &std::path::Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    let huge = |path: &std::path::Path| fs::File::create(path).unwrap().set_len(3 << 30).unwrap();
    let cases: [(Make<'_>, &str); 3] = [
        (&pipe, "it is no regular file"),
        (&device, "it is no regular file"),
        (&huge, "it has more than 16 MiB"),
    ];
    for (make, expected) in cases {
        replace(make);
        assert!(tokens.reload().unwrap_err().to_string().ends_with(expected));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(who(&server, "1").await.is_some(), "{expected}");
    }
    let folder = TokenFile::open(std::env::temp_dir())
        .unwrap_err()
        .to_string();
    assert!(folder.ends_with("it is no regular file"), "{folder}");
}

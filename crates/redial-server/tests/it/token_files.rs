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
    assert!(problem.contains("line 2: the hash of three"), "{problem}");
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
    let missing = TokenFile::open("/nowhere/tokens").unwrap_err().to_string();
    assert!(
        missing.contains("/nowhere/tokens: can't be read"),
        "{missing}"
    );
}

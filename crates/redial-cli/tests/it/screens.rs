//! The report of a load as a browser shows it: on a desk, in the dark, and on a phone.

use std::fs;

use crate::{
    browser::{Browser, View},
    world::{CounterServer, Folder},
};

/// A page that is wider than a phone, or whose letters are too small to be read there.
#[test]
fn the_report_fits_a_desk_and_a_phone() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let (server, folder) = (CounterServer::start(), Folder::new());
    let mut wrong = Vec::new();
    for (name, words) in [
        (
            "load-open",
            r#"inc {"key":"k"} --rate 2000 -n 4000 --verify get"#,
        ),
        ("load-closed", "nothing null -n 2000 -c 4"),
    ] {
        let file = folder.path("report.html");
        server.run(&format!("load ADDR {words} --html {file}"));
        let page = fs::read_to_string(&file).unwrap();
        for view in View::ALL {
            let found = browser.look(name, &page, view);
            wrong.extend(
                found
                    .into_iter()
                    .map(|what| format!("{name}, {view:?}: {what}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

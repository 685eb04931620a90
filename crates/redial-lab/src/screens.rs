//! The pages as a browser shows them: on a desk, in the dark, and on a phone.

use crate::{
    bench, chaos, demo, failover, growth, memory,
    report::browser::{Browser, View},
    restarts, storm, sweep,
};

/// A page that is wider than a phone, whose letters are too small to be read there, whose labels lie on
/// one another or outside their picture, and tables that can be scrolled and don't look like it.
#[test]
fn every_page_fits_a_desk_and_a_phone() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let [bench, durable] = bench::sample_pages();
    let pages = [
        ("demo", demo::sample_page()),
        ("sweep", sweep::sample_page()),
        ("restarts", restarts::sample_page()),
        ("chaos", chaos::sample_page()),
        ("failover", failover::sample_page()),
        ("memory", memory::sample_page()),
        ("growth", growth::sample_page()),
        ("storm", storm::sample_page()),
        ("bench", bench),
        ("bench-durable", durable),
    ];
    let mut wrong = Vec::new();
    for (name, page) in pages {
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

/// The check itself: each of these pages has a fault that it has to find.
#[test]
fn what_does_not_fit_is_found() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let svg =
        |inside: &str| format!("<svg viewBox=\"0 0 340 40\" style=\"width:100%\">{inside}</svg>");
    let text =
        |x: u32, size: u32| format!("<text x=\"{x}\" y=\"20\" font-size=\"{size}\">label</text>");
    let faults = [
        ("wide", "<p style=\"width:600px\">x</p>".to_owned(), "wider than the page"),
        ("small", svg(&text(0, 9)), "small letters"),
        ("outside", svg(&text(335, 12)), "outside its picture"),
        ("covered", svg(&(text(0, 12) + &text(8, 12))), "lies on"),
        (
            "cueless",
            "<div style=\"overflow-x:auto\"><p style=\"width:600px\">x</p></div>".to_owned(),
            "no cue",
        ),
        (
            "verdict",
            "<div class=\"scroll\" style=\"overflow-x:auto;background:linear-gradient(red,blue)\"><table><tr>\
             <td style=\"min-width:500px\">x</td><td class=\"exact\">exact</td></tr></table></div>"
                .to_owned(),
            "out of sight",
        ),
    ];
    for (name, body, fault) in faults {
        let page = format!("<!doctype html><body style=\"margin:0\">{body}");
        let found = browser.look(name, &page, View::Phone);
        assert!(
            found.iter().any(|what| what.contains(fault)),
            "{name}: {found:?}"
        );
    }
    let fine = "<!doctype html><p>All is well.</p>";
    assert_eq!(browser.look("fine", fine, View::Phone), [""; 0]);
}
